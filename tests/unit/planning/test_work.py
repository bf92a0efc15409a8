"""The work order: what the roles are handed for one host."""

from __future__ import annotations

from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import HostPlan
from pdinfra.planning.changes import host_changes, removals
from pdinfra.planning.work import HostWork, host_work
from tests.unit.builders import converged, facts, observed, plan


def work(of: HostPlan, seen: HostFacts, *, check: bool = False) -> HostWork:
    return host_work(of, host_changes(of, seen), check=check)


def test_converged_host_has_nothing_to_do() -> None:
    of = plan().host("a")
    order = work(of, converged(of))
    assert order.stages == ()
    for work_of_a_role in (order.images, order.models, order.instances, order.routers):
        assert work_of_a_role == ()
    assert order.removed_instances == order.removed_routers == ()


def test_bare_host_gets_everything_of_its_plan() -> None:
    of = plan().host("a")
    order = work(of, facts(of, images={}, models=()))
    assert order.images == of.images
    assert [model.path for model in order.models] == [model.path for model in of.models]
    assert [w.container.id for w in order.instances] == ["prefill-a-0", "decode-a-0"]
    assert [w.container.id for w in order.routers] == ["router"]
    assert not any(w.recreate for w in (*order.instances, *order.routers))


def test_container_that_is_there_is_made_anew_and_others_are_not_touched() -> None:
    of = plan(every={"pd_decode": {"max_model_len": 1024}}).host("a")
    order = work(of, converged(plan().host("a")))
    assert [(w.container.id, w.recreate) for w in order.instances] == [("decode-a-0", True)]
    assert order.routers == ()
    assert order.stages == ("instance",)


def test_all_planned_containers_are_waited_for() -> None:
    of = plan().host("a")
    assert work(of, converged(of)).wait_for == ("prefill-a-0", "decode-a-0", "router")


def test_removed_containers_are_named_as_docker_knows_them() -> None:
    of = plan().host("a")
    everything = [observed(container) for container in of.containers]
    order = host_work(of, removals("a", everything), check=False)
    assert order.removed_instances == ("pd-pd-prefill-a-0", "pd-pd-decode-a-0")
    assert order.removed_routers == ("pd-pd-router",)
    assert order.instances == order.routers == ()


def test_container_that_somebody_renamed_is_removed_by_its_real_name() -> None:
    of = plan().host("a")
    stray = observed(of.containers[0]).model_copy(update={"id": "old", "name": "by-hand"})
    order = work(of, facts(of, [stray]))
    assert order.removed_instances == ("by-hand",)


def test_check_mode_plans_the_same_work_in_fewer_stages() -> None:
    of = plan().host("a")
    bare = facts(of, images={})
    assert work(of, bare, check=True).stages == ("image",)
    assert work(of, bare).stages == ("image", "instance", "router")
