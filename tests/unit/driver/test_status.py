"""`status`: Docker's word and the member's own answer, against FAKE members."""

from __future__ import annotations

import pytest

from pdinfra.driver.status import ServiceStatus, status
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from tests.unit.builders import converged, facts, observed, plan
from tests.unit.verify.fakes import FakeServer, moved, serving, speak


def seen(made: Plan, of: HostFacts) -> ServiceStatus:
    return status(made, {"a": of.containers})


def test_service_is_healthy_when_everything_runs_and_answers() -> None:
    with serving(*(FakeServer(speak) for _ in range(3))) as ports:
        found = seen(moved(plan(), ports), converged(plan().host("a")))
    assert found.healthy
    assert [(m.id, m.state, m.ready) for m in found.instances] == [
        ("prefill-a-0", "running", True),
        ("decode-a-0", "running", True),
    ]
    assert set(found.document()["router"]) == {"id", "host", "url", "state", "ready"}


def test_stopped_and_missing_members_are_told_apart() -> None:
    of = plan().host("a")
    half = facts(of, [observed(of.containers[0], Status="exited"), observed(of.containers[2])])
    with serving(FakeServer(speak)) as (port,):
        found = seen(moved(plan(), [1, 1, port]), half)
    assert not found.healthy
    assert [(m.state, m.ready) for m in found.instances] == [("exited", False), ("absent", False)]
    assert (found.router.state, found.router.ready) == ("running", True)


def test_member_of_a_host_that_was_not_looked_at_is_unknown() -> None:
    found = status(moved(plan(), [1, 1, 1]), {})
    assert {m.state for m in found.instances} == {"unknown"}


def test_foreign_process_that_answers_does_not_make_a_service_healthy() -> None:
    with serving(*(FakeServer(speak) for _ in range(3))) as ports:
        found = seen(moved(plan(), ports), facts(plan().host("a")))
    assert not found.healthy


@pytest.mark.parametrize(
    ("health", "ready", "state"),
    [("healthy", True, "running"), ("unhealthy", False, "mixed-a-0-n1 not connected")],
)
def test_an_instance_over_hosts_needs_all_of_its_parts(
    health: str, ready: bool, state: str
) -> None:
    entry = {"role": "mixed", "hosts": ["b"], "tensor_parallel_size": 2}
    made = plan(
        {"all": ["a", "b"], "mixed": ["a"], "router": ["a"]},
        a={"pd_address": "192.0.2.1", "pd_instances": [entry]},
        b={"pd_address": "192.0.2.2"},
    )
    (part,) = made.host("b").containers
    there = observed(part, Health={"Status": health, "FailingStreak": 0, "Log": []})
    with serving(*(FakeServer(speak) for _ in range(2))) as ports:
        found = status(
            moved(made, ports), {"a": converged(made.host("a")).containers, "b": (there,)}
        )
    assert found.healthy is ready
    assert [(m.id, m.state, m.ready) for m in found.instances] == [("mixed-a-0", state, ready)]
