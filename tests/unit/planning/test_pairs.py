"""Engines that find each other only when they start are never started alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from pdinfra.model.changes import Change
from pdinfra.planning.compare import compare
from pdinfra.planning.finish import finish
from pdinfra.planning.waiting import waiting
from tests.unit.builders import NVIDIA, TWO_HOSTS, converged, facts, observed, plan

PYNCCL: dict[str, Any] = {
    **NVIDIA,
    "pd_connector": "nccl",
    "pd_image": "registry.example.com/llm:vllm-server-0.8.5",
}
START = datetime.fromisoformat("2026-11-21T14:00:00+00:00")


def changes(every: dict[str, Any], *, looked_at: str = "ab", **apart: float) -> dict[str, Change]:
    """Return the engines' changes of a service in which host b's decode runs as planned before.

    every: variables that host a's plan has besides; apart: seconds after which b's started.
    """
    before = plan(TWO_HOSTS, PYNCCL)
    now = plan(TWO_HOSTS, PYNCCL, a=every)
    seen = {}
    for host in before.hosts:
        if host.name not in looked_at:
            continue
        start = START + timedelta(seconds=apart.get(host.name, 0))
        found = [observed(c, StartedAt=start.isoformat()) for c in host.containers]
        seen[host.name] = converged(host).model_copy(update={"containers": tuple(found)})
    finished = finish(now, seen)
    made = compare(finished, seen, "converge", check=False).changes
    return {c.id: c for c in made if c.kind == "instance"}


@pytest.fixture(autouse=True)
def _interfaces_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hosts' interfaces add to environments is not the matter here."""
    monkeypatch.setattr("pdinfra.planning.finish.interface_variables", lambda *_, **__: ())


def test_nothing_happens_to_a_pair_that_is_as_planned() -> None:
    assert {c.action for c in changes({}).values()} == {"keep"}


def test_a_partner_starts_anew_with_the_one_that_changes() -> None:
    made = changes({"pd_prefill": {"env": {"A": "1"}}})
    assert made["prefill-a-0"].action == made["decode-b-0"].action == "replace"
    assert made["prefill-a-0"].reason.startswith("env A")
    assert made["decode-b-0"].reason.startswith("starts with prefill-a-0")


def test_a_pair_that_started_apart_lost_each_other() -> None:
    made = changes({}, b=4000)
    assert {c.action for c in made.values()} == {"replace"}
    assert "66 minutes apart" in made["decode-b-0"].reason
    assert {c.action for c in changes({}, b=60).values()} == {"keep"}


@pytest.mark.parametrize(("health", "action"), [("starting", "replace"), ("healthy", "keep")])
def test_one_that_docker_started_again_waits_for_its_partner_in_vain(
    health: str, action: str
) -> None:
    now = plan(TWO_HOSTS, PYNCCL)
    seen = {}
    for host in now.hosts:
        late = host.name == "b"
        start = (START + timedelta(seconds=60 * late)).isoformat()
        again = {"restarts": 1, "health": health} if late else {}
        found = [observed(c, StartedAt=start).model_copy(update=again) for c in host.containers]
        seen[host.name] = converged(host).model_copy(update={"containers": tuple(found)})
    made = compare(finish(now, seen), seen, "converge", check=False).changes
    engines = [c for c in made if c.kind == "instance"]
    assert {c.action for c in engines} == {action}
    told = [c.reason for c in engines if "decode-b-0 was started again alone" in c.reason]
    assert len(told) == (2 if action == "replace" else 0)


def test_a_partner_that_was_not_looked_at_is_named() -> None:
    made = changes({"pd_prefill": {"env": {"A": "1"}}}, looked_at="a")
    assert made["prefill-a-0"].reason.endswith("decode-b-0 must start with it: run without --limit")


def test_other_connectors_leave_partners_alone() -> None:
    before = plan(TWO_HOSTS, NVIDIA)
    now = plan(TWO_HOSTS, NVIDIA, a={"pd_prefill": {"env": {"A": "1"}}})
    seen = {host.name: converged(host) for host in before.hosts}
    made = compare(finish(now, seen), seen, "converge", check=False).changes
    assert {c.id: c.action for c in made if c.kind == "instance"} == {
        "prefill-a-0": "replace",
        "decode-b-0": "keep",
    }


def test_who_waits_for_others_says_so() -> None:
    mine = plan(TWO_HOSTS, PYNCCL).host("a").containers[0]
    health = {"Status": "starting", "FailingStreak": 0, "Log": []}
    found = waiting([mine.id], [observed(mine, Health=health)])
    assert "waits until all 2 engines of its group are there" in found.waiting[0]
    other = plan(TWO_HOSTS, NVIDIA).host("a")
    assert (
        "waits until"
        not in waiting(
            [mine.id], facts(other, [observed(other.containers[0], Health=health)]).containers
        ).waiting[0]
    )
