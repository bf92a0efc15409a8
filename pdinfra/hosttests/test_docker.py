"""The host answers, Docker answers, and the engine keeps logs small."""

from __future__ import annotations

from pdinfra.hosttests import judge
from pdinfra.hosttests.conftest import Expect
from pdinfra.hosttests.seen import Seen
from pdinfra.model.plan import HostPlan, Image


def test_host_answers(anyhow: Seen, expect: Expect) -> None:
    """The host can be looked at, with the inventory's connection."""
    expect(judge.same(anyhow.error or "it answers", "it answers"))


def test_engine_answers(seen: Seen, expect: Expect) -> None:
    """Docker answers."""
    expect(judge.engine(seen))


def test_engine_rotates_logs(engine: Seen, expect: Expect) -> None:
    """Containers of others do not fill the disk with logs either."""
    expect(judge.log_rotation(engine))


def test_image_is_present(engine: Seen, image: Image, expect: Expect) -> None:
    """Each image is there by name and digest."""
    expect(judge.image(engine, image))


def test_no_container_besides_the_planned(engine: Seen, node: HostPlan, expect: Expect) -> None:
    """The service has exactly its planned containers on the host."""
    expect(judge.membership(engine, node))
