"""What follows on a Ray cluster from a container that is made anew."""

from __future__ import annotations

from typing import Any

from pdinfra.model.changes import Change
from pdinfra.model.plan import Plan
from pdinfra.planning.changes import host_changes
from pdinfra.planning.ray_changes import with_head
from tests.unit.builders import ON_RAY, converged, facts, observed, plan

HOSTS = {name: {"pd_address": f"192.0.2.{n}"} for n, name in enumerate("abc", start=1)}
ENGINE, BESIDE = "mixed-a-0", "mixed-a-1"


def executor(**more: dict[str, Any]) -> Plan:
    """Return an engine over a and b beside another one; c has the head. more: of one host."""
    every = {**ON_RAY, "pd_stack": "ray", "pd_ray_mode": "executor", "pd_devices": [0, 1]}
    entries = [{"role": "mixed", "hosts": ["b"], "tensor_parallel_size": 2}, {"role": "mixed"}]
    own = {name: {**mine, **more.get(name, {})} for name, mine in HOSTS.items()}
    own["a"] |= {"pd_instances": entries}
    return plan({"all": ["a", "b", "c"], "mixed": ["a"], "router": ["c"]}, every, **own)


def replicas(**more: dict[str, Any]) -> Plan:
    """Return replicas on all hosts; a has the head. more: variables of one host."""
    own = {name: {**mine, **more.get(name, {})} for name, mine in HOSTS.items()}
    return plan({"mixed": ["a", "b", "c"], "router": ["a"]}, {"pd_stack": "ray"}, **own)


def changes(before: Plan, now: Plan, without: str = "") -> dict[str, Change]:
    """Return the containers' changes where all runs as planned before, but for one container."""
    by_host = {}
    for host in now.hosts:
        there = before.host(host.name)
        seen = facts(there, [observed(c) for c in there.containers if c.id != without])
        by_host[host.name] = host_changes(host, seen)
    found = [c for mine in with_head(now, by_host).values() for c in mine]
    return {c.id: c for c in found if c.kind in ("head", "node", "instance", "router")}


def anew(found: dict[str, Change]) -> set[str]:
    """Return who is made anew."""
    return {name for name, change in found.items() if change.action != "keep"}


MORE = {"pd_ray_object_store_gib": 2}


def test_where_nothing_changes_everything_stays() -> None:
    assert anew(changes(executor(), executor())) == set()
    assert anew(changes(replicas(), replicas())) == set()


def test_a_node_that_starts_anew_takes_the_engine_along_that_had_workers_there() -> None:
    found = changes(executor(), executor(b=MORE))
    assert anew(found) == {"ray-b", ENGINE}
    assert (found[ENGINE].action, found[ENGINE].reason) == (
        "replace",
        "has workers on ray-b, which starts anew",
    )


def test_a_node_that_is_gone_is_made_and_the_engine_starts_with_it() -> None:
    found = changes(executor(), executor(), without="ray-b")
    assert (found["ray-b"].action, found[ENGINE].action) == ("create", "replace")
    assert anew(found) == {"ray-b", ENGINE}


def test_a_head_that_is_made_anew_is_another_cluster_which_all_nodes_join() -> None:
    found = changes(executor(), executor(c=MORE))
    assert anew(found) == {"ray-a", "ray-b", "ray-c", ENGINE}
    assert found["ray-b"].reason == "its head is made anew, and that is another cluster"
    assert "has workers on ray-a" in found[ENGINE].reason
    assert found[BESIDE].action == found["router"].action == "keep"


def test_reasons_of_their_own_are_not_overwritten() -> None:
    found = changes(executor(), executor(c=MORE, b=MORE))
    assert "ShmSize" in found["ray-b"].reason or "shm" in found["ray-b"].reason
    assert "another cluster" in found["ray-a"].reason


def test_replicas_nodes_stand_for_themselves() -> None:
    assert anew(changes(replicas(), replicas(b=MORE))) == {"ray-b"}
    assert anew(changes(replicas(), replicas(a=MORE))) == {"ray-a", "ray-b", "ray-c"}
    keeper = changes(replicas(), replicas(a=MORE))["router"]
    assert keeper.action == "keep", "it deploys on whatever cluster there is"


def test_other_stacks_have_no_head() -> None:
    made = plan()
    by_host = {"a": host_changes(made.host("a"), converged(made.host("a")))}
    assert with_head(made, by_host) == by_host
