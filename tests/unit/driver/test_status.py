"""`status`: Docker's word and the member's own answer, against FAKE members."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.driver.status import ServiceStatus, replica_rows, status
from pdinfra.model.facts import HostFacts, ReplicaFact, ServeFact
from pdinfra.model.plan import Plan, RayCluster
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


ENGINE = "LLMServer:engine"


def ray(entries: int = 1, **every: Any) -> RayCluster:
    """Return so many mixed replicas on a, and one on b."""
    made = plan(
        {"mixed": ["a", "b"], "router": ["a"]},
        {"pd_stack": "ray", **every},
        a={"pd_address": "192.0.2.1", "pd_instances": [{"role": "mixed"}] * entries},
        b={"pd_address": "192.0.2.2"},
    ).ray
    assert made is not None
    return made


def serve(*replicas: tuple[str, str]) -> ServeFact:
    """Return what Ray Serve has: hosts' last numbers, and states."""
    found = tuple(
        ReplicaFact(
            id=str(number),
            deployment=ENGINE,
            address=f"192.0.2.{host}" if host else "",
            state=state,
        )
        for number, (host, state) in enumerate(replicas)
    )
    return ServeFact(statuses={"pd": "RUNNING"}, messages={"pd": ""}, replicas=found)


def states(of: RayCluster, seen: ServeFact | None) -> dict[str, tuple[str, bool]]:
    """Return each row's state, and whether it is ready."""
    return {row.id: (row.state, row.ready) for row in replica_rows(of, "http://entry", seen)}


def test_replicas_are_those_that_ray_has_on_their_host() -> None:
    rows = replica_rows(ray(), "http://entry", serve(("1", "RUNNING"), ("2", "RUNNING")))
    assert [(r.id, r.role, r.host, r.url, r.state, r.ready) for r in rows] == [
        ("mixed-a-0", "mixed", "a", "http://entry", "running", True),
        ("mixed-b-0", "mixed", "b", "http://entry", "running", True),
    ]


def test_replicas_that_start_and_that_are_absent_are_not_ready() -> None:
    assert states(ray(2), serve(("1", "RUNNING"), ("1", "STARTING"))) == {
        "mixed-a-0": ("running", True),
        "mixed-a-1": ("starting", False),
        "mixed-b-0": ("absent", False),
    }


def test_a_replica_that_has_no_host_yet_stands_for_none() -> None:
    found = states(ray(), serve(("1", "RUNNING"), ("", "STARTING")))
    assert found["mixed-b-0"] == ("absent", False)


def test_a_replica_that_is_being_replaced_does_not_hide_the_new_one() -> None:
    found = states(ray(), serve(("1", "STOPPING"), ("1", "RUNNING"), ("2", "RUNNING")))
    assert found == {"mixed-a-0": ("running", True), "mixed-b-0": ("running", True)}


def test_where_ray_did_not_answer_nothing_is_known_of_its_replicas() -> None:
    assert set(states(ray(), None).values()) == {("unknown", False)}


def test_replicas_that_ray_took_away_are_no_rows() -> None:
    bounded = ray(2, pd_ray_min_replicas=1)
    assert states(bounded, serve(("2", "RUNNING"))) == {"mixed-b-0": ("running", True)}
    assert len(states(bounded, serve())) == 3, "one there always is"


@pytest.mark.parametrize("gone", ["", "b"])
def test_a_service_on_ray_is_healthy_with_its_nodes_and_replicas(gone: str) -> None:
    made = plan(
        {"mixed": ["a", "b"], "router": ["a"]},
        {"pd_stack": "ray"},
        a={"pd_address": "192.0.2.1"},
        b={"pd_address": "192.0.2.2"},
    )
    there = {
        host.name: () if host.name == gone else converged(host).containers for host in made.hosts
    }
    with serving(FakeServer(speak)) as ports:
        found = status(moved(made, ports), there, serve=serve(("1", "RUNNING"), ("2", "RUNNING")))
    assert found.healthy is (not gone)
    assert [(n.id, n.role, n.state, n.ready) for n in found.nodes] == [
        ("ray-a", "ray-head", "running", True),
        ("ray-b", "ray-node", *(("absent", False) if gone else ("running", True))),
    ]
    assert [row.id for row in found.instances] == ["mixed-a-0", "mixed-b-0"]
