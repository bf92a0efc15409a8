"""Who gets requests: joining and leaving a router that goes on running."""

from __future__ import annotations

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Member, Plan
from pdinfra.planning.compare import compare
from pdinfra.planning.finish import Finished
from pdinfra.planning.members import MemberWork
from tests.unit.builders import converged, facts, observed, plan

TWO = {"prefill": ["a"], "decode": ["b", "c"], "router": ["a"]}
THREE = {"prefill": ["a"], "decode": ["b", "c", "d"], "router": ["a"]}
LEFT = {**TWO, "all": ["a", "b", "c", "d"]}


def running(of: Plan) -> dict[str, HostFacts]:
    """Return the facts of a service that is as planned."""
    seen = {host.name: converged(host) for host in of.hosts}
    seen[of.router.host] = converged(of.host(of.router.host), members=of.router.members)
    return seen


def ids(members: tuple[Member, ...] | None) -> list[str] | None:
    return None if members is None else [member.id for member in members]


def listed(changes: list[Change]) -> set[tuple[str, str, str, str]]:
    return {(c.host, c.kind, c.action, c.id) for c in changes if c.action != "keep"}


def steps(of: Plan, seen: dict[str, HostFacts]) -> tuple[list[str] | None, list[str] | None]:
    work = compare(Finished(of), seen, "converge", check=False).work[of.router.host].members
    return ids(work.before), ids(work.after)


def test_converged_service_has_no_work_for_its_members() -> None:
    of = plan(TWO)
    found = compare(Finished(of), running(of), "converge", check=False)
    assert listed(found.changes) == set()
    assert found.work["a"].members == MemberWork()
    assert all(work.stages == () for work in found.work.values())


def test_new_host_touches_itself_and_the_members_and_nothing_else() -> None:
    seen = running(plan(TWO))
    of = plan(THREE)
    seen["d"] = facts(of.host("d"))
    found = compare(Finished(of), seen, "converge", check=False)
    assert listed(found.changes) == {
        ("d", "instance", "create", "decode-d-0"),
        ("a", "member", "create", "decode-d-0"),
    }
    assert found.work["a"].stages == ("member",)
    assert found.work["b"].stages == found.work["c"].stages == ()
    assert steps(of, seen) == (None, ["prefill-a-0", "decode-b-0", "decode-c-0", "decode-d-0"])


def test_host_that_left_its_group_is_drained_before_it_is_emptied() -> None:
    seen = running(plan(THREE))
    of = plan(LEFT)
    found = compare(Finished(of), seen, "converge", check=False)
    assert listed(found.changes) == {
        ("d", "instance", "remove", "decode-d-0"),
        ("a", "member", "remove", "decode-d-0"),
    }
    rest = ["prefill-a-0", "decode-b-0", "decode-c-0"]
    assert steps(of, seen) == (rest, rest)


def test_host_that_left_the_inventory_leaves_the_router_all_the_same() -> None:
    seen = running(plan(THREE))
    del seen["d"]
    found = compare(Finished(plan(TWO)), seen, "converge", check=False)
    assert listed(found.changes) == {("a", "member", "remove", "decode-d-0")}


def test_replaced_instance_is_drained_while_another_serves_and_comes_back() -> None:
    seen = running(plan(TWO))
    of = plan(TWO, c={"pd_max_model_len": 1024})
    assert listed(compare(Finished(of), seen, "converge", check=False).changes) == {
        ("c", "instance", "replace", "decode-c-0")
    }
    assert steps(of, seen) == (
        ["prefill-a-0", "decode-b-0"],
        ["prefill-a-0", "decode-b-0", "decode-c-0"],
    )
    assert compare(Finished(of), seen, "converge", check=False).work["a"].stages == ("member",)


def test_the_only_one_of_its_role_cannot_be_drained() -> None:
    seen = running(plan(TWO))
    of = plan(TWO, a={"pd_prefill": {"max_model_len": 1024}})
    assert steps(of, seen) == (None, None)


def test_router_that_starts_starts_with_everybody() -> None:
    of = plan(TWO)
    seen = {host.name: facts(host) for host in of.hosts}
    found = compare(Finished(of), seen, "converge", check=False)
    assert not any(change.kind == "member" for change in found.changes)
    assert steps(of, seen) == (None, ["prefill-a-0", "decode-b-0", "decode-c-0"])


def test_router_that_does_not_say_is_told_again() -> None:
    of = plan(TWO)
    seen = running(of)
    seen["a"] = converged(of.host("a"))
    assert steps(of, seen) == (None, ["prefill-a-0", "decode-b-0", "decode-c-0"])


def test_members_of_hosts_that_were_not_looked_at_stay_as_they_are() -> None:
    of = plan(THREE)
    seen = running(plan(TWO))
    del seen["b"]
    assert steps(of, seen) == (None, None)
    seen["d"] = facts(of.host("d"))
    assert steps(of, seen) == (None, ["prefill-a-0", "decode-b-0", "decode-c-0", "decode-d-0"])


def test_moved_instance_leaves_with_its_old_address_and_joins_with_its_new_one() -> None:
    seen = running(plan(TWO))
    of = plan(TWO, c={"pd_decode": {"port": 8250}})
    changes = compare(Finished(of), seen, "converge", check=False).changes
    assert [(c.kind, c.action) for c in changes if c.id == "decode-c-0"] == [
        ("member", "create"),
        ("member", "remove"),
        ("instance", "replace"),
    ]


def test_down_leaves_the_members_alone() -> None:
    of = plan(TWO)
    found = compare(Finished(of), running(of), "down", check=False)
    assert {c.action for c in found.changes} == {"remove"}
    assert found.work["a"].members == MemberWork()


def test_check_mode_names_the_members_that_would_change() -> None:
    seen = running(plan(TWO))
    of = plan(THREE)
    seen["d"] = facts(of.host("d"), [observed(c) for c in of.host("d").containers])
    assert compare(Finished(of), seen, "converge", check=True).work["a"].stages == ("member",)
