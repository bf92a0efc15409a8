"""Instances are replaced in two parts where the other part can go on answering."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from pdinfra.planning.compare import Comparison, compare
from pdinfra.planning.finish import finish
from tests.unit.ascend import BOTH_HOSTS, CLOUD, DIST, bare, cloud, guide, running, with_card

MANY = {"prefill": ["a", "b", "c"], "decode": ["a", "b", "c"], "router": ["a"]}
PAUSES = "; the service pauses: no other prefill goes on answering"


def compared(of: Plan, seen: Mapping[str, HostFacts]) -> Comparison:
    return compare(finish(of, seen), seen, "converge", check=False)


def reasons(found: Comparison) -> dict[str, str]:
    """Return why instances are replaced, by id."""
    return {c.id: c.reason for c in found.changes if c.kind == "instance" and c.action == "replace"}


def later(found: Comparison) -> set[str]:
    """Return who waits, which every host's work order must tell the same of."""
    return {name for work in found.work.values() for name in work.later}


def moved(of: Plan) -> dict[str, HostFacts]:
    """Return a running service of which one card has another address now."""
    return with_card(running(of), "a", d0="10.20.1.99")


def with_container(
    seen: Mapping[str, HostFacts], host: str, name: str, **more: str
) -> dict[str, HostFacts]:
    """Return facts with one container in another state."""
    mine = seen[host]
    containers = tuple(c.model_copy(update=more) if c.id == name else c for c in mine.containers)
    return {**seen, host: mine.model_copy(update={"containers": containers})}


def test_half_of_each_role_waits_until_the_others_are_back() -> None:
    found = compared(cloud(), moved(cloud()))
    assert found.waves == 2
    assert later(found) == {"prefill-b-0", "decode-b-0"}
    assert found.work["a"].later == ()
    assert found.work["b"].later == ("prefill-b-0", "decode-b-0")
    first, second = "reads another rank table; first part", "after the others are back"
    assert reasons(found)["prefill-a-0"] == reasons(found)["decode-a-0"] == first
    assert second in reasons(found)["prefill-b-0"]
    assert second in reasons(found)["decode-b-0"]


def test_of_three_the_smaller_half_waits() -> None:
    found = compared(cloud(MANY), moved(cloud(MANY)))
    assert later(found) == {"prefill-c-0", "decode-c-0"}


def test_nobody_waits_where_nobody_could_go_on_and_the_pause_is_told() -> None:
    of = guide()
    found = compared(of, with_card(running(of), "a", d4="10.20.1.99"))
    assert (found.waves, later(found)) == (1, set())
    assert set(reasons(found).values()) == {f"reads another rank table{PAUSES}"}


@pytest.mark.parametrize("state", [{"health": "unhealthy"}, {"state": "exited"}])
def test_who_does_not_answer_comes_back_before_who_does_goes(state: dict[str, str]) -> None:
    of = cloud()
    found = compared(of, with_container(moved(of), "b", "prefill-b-0", **state))
    assert (found.waves, later(found)) == (2, {"prefill-a-0", "decode-b-0"})


def test_members_that_nothing_touches_go_on_so_nobody_waits() -> None:
    of = cloud(a={"pd_prefill": {**CLOUD["pd_prefill"], "max_num_seqs": 8}})
    found = compared(of, running(cloud()))
    assert set(reasons(found)) == {"prefill-a-0"}
    assert (found.waves, later(found)) == (1, set())
    assert "pause" not in reasons(found)["prefill-a-0"]


def test_one_role_that_is_touched_altogether_waits_alone() -> None:
    of = cloud(every={**CLOUD, "pd_prefill": {**CLOUD["pd_prefill"], "max_num_seqs": 8}})
    found = compared(of, running(cloud()))
    assert set(reasons(found)) == {"prefill-a-0", "prefill-b-0"}
    assert later(found) == {"prefill-b-0"}


def test_scale_out_keeps_the_service_answering_where_it_can() -> None:
    seen = bare(cloud(MANY))
    before = running(cloud())
    for name, mine in before.items():
        more = {"containers": mine.containers, "rank_tables": mine.rank_tables}
        seen[name] = seen[name].model_copy(update=more)
    found = compared(cloud(MANY), seen)
    assert later(found) == {"prefill-b-0", "decode-b-0"}


@pytest.mark.parametrize("state", [{"health": "unhealthy"}, {"state": "exited"}])
def test_scheduler_that_does_not_answer_keeps_nobody_waiting(state: dict[str, str]) -> None:
    of = cloud()
    found = compared(of, with_container(moved(of), "a", "router", **state))
    assert (found.waves, later(found)) == (1, set())


def test_first_start_has_one_wave() -> None:
    found = compared(cloud(), bare(cloud()))
    assert (found.waves, later(found)) == (1, set())


def test_router_that_is_told_its_members_while_it_runs_needs_no_waves() -> None:
    of = cloud(BOTH_HOSTS, {**DIST, "pd_devices": [0, 1]})
    seen = running(of)
    for host in ("a", "b"):
        seen = with_card(seen, host, d0=f"10.20.9.{ord(host)}", d1=f"10.20.8.{ord(host)}")
    found = compared(of, seen)
    assert len(reasons(found)) == 4
    assert (found.waves, later(found)) == (1, set())


def test_down_has_one_wave() -> None:
    of = cloud()
    seen = running(of)
    assert compare(finish(of, seen), seen, "down", check=False).waves == 1
