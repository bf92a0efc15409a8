"""Who gets requests from the router: what changes, and in which steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Member, Plan

Members = tuple[Member, ...]


class MemberWork(BaseModel):
    """The router's members in two steps; None means that there is nothing to do in a step.

    ``before``: who stays while engines are replaced and removed (the others have been drained).
    ``after``: who is there in the end, once every engine is healthy.
    """

    model_config = ConfigDict(frozen=True)

    before: Members | None = None
    after: Members | None = None


NO_MEMBERS = MemberWork()


def member_changes(
    plan: Plan, facts: Mapping[str, HostFacts], changes: Sequence[Change]
) -> list[Change]:
    """Return who joins and who leaves a router that goes on running; changes: all hosts'."""
    if plan.router.static or _made(plan, changes) or (now := _now(plan, facts)) is None:
        return []
    wanted = _wanted(plan, facts, now)
    leave = f"leaves the router, after its running requests (at most {plan.router.drain_seconds} s)"

    def change(member: Member, action: str, reason: str) -> Change:
        row = {"host": plan.router.host, "kind": "member", "id": member.id}
        return Change.model_validate({**row, "action": action, "reason": reason})

    joins = [
        change(m, "create", "joins the router once it is healthy") for m in wanted if m not in now
    ]
    return joins + [change(m, "remove", leave) for m in now if m not in wanted]


def member_work(
    plan: Plan, facts: Mapping[str, HostFacts], changes: Sequence[Change]
) -> MemberWork:
    """Return the steps for the router's host; changes: all hosts', without those of members."""
    if plan.router.static:
        return NO_MEMBERS
    if plan.router.host not in facts or not any(c.kind == "router" for c in changes):
        return NO_MEMBERS
    now = _now(plan, facts)
    if _made(plan, changes) or now is None:
        return MemberWork(after=_wanted(plan, facts, ()))
    wanted = _wanted(plan, facts, now)
    touched = {c.id for c in changes if c.kind == "instance" and c.action != "keep"}
    staying = tuple(m for m in now if m in wanted and m.id not in touched)
    if staying != now and serves(staying):
        return MemberWork(before=staying, after=wanted)
    return MemberWork(after=wanted if set(now) != set(wanted) else None)


def serves(members: Iterable[Member]) -> bool:
    """Tell whether requests can be answered: a prefill and a decode, or a mixed one."""
    roles = {member.role for member in members}
    return "mixed" in roles or {"prefill", "decode"} <= roles


def _now(plan: Plan, facts: Mapping[str, HostFacts]) -> Members | None:
    """Return the router's members; None if it does not say."""
    seen = facts.get(plan.router.host)
    return seen.members if seen else None


def _made(plan: Plan, changes: Sequence[Change]) -> bool:
    """Tell whether the router itself is started anew: then it starts with its members."""
    return any(c.kind == "router" and c.action in ("create", "replace") for c in changes)


def _wanted(plan: Plan, facts: Mapping[str, HostFacts], now: Members) -> Members:
    """Return the planned members; those of hosts that were not looked at stay as they are.

    A router that starts has no members that could stay: it gets all.
    """
    hosts = {instance.id: instance.host for instance in plan.instances}
    return tuple(
        member
        for member in plan.router.members
        if not now or hosts[member.id] in facts or member in now
    )
