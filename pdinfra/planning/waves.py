"""In which order instances are replaced where the router goes on giving them requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan

ROLES = ("prefill", "decode")


@dataclass(frozen=True)
class Waves:
    """Who waits, and what stops answering meanwhile.

    ``later`` are instances that go on answering until the others are back: empty where no request
    could be answered meanwhile, or where none needs to wait. ``paused`` is the role of which all
    running instances go at once, empty where none does.
    """

    later: frozenset[str] = frozenset()
    paused: str = ""


ONE_WAVE = Waves()


def waves(plan: Plan, facts: Mapping[str, HostFacts], changes: Sequence[Change]) -> Waves:
    """Return the order in which the instances of all hosts are replaced; changes: all hosts'."""
    replaced = {c.id for c in changes if c.kind == "instance" and c.action == "replace"}
    up = {
        role: [i.id for i in plan.instances if i.role == role and _runs(facts, i.host, i.id)]
        for role in ROLES
    }
    later = _later(plan, replaced, up) if _waits(plan, facts) else frozenset()
    gone = replaced - later
    paused = next((role for role in ROLES if up[role] and set(up[role]) <= gone), "")
    return Waves(later, paused)


def _waits(plan: Plan, facts: Mapping[str, HostFacts]) -> bool:
    """Tell whether the router knows its members by their start only, and gives them requests."""
    return plan.router.static and _runs(facts, plan.router.host, plan.router.id)


def _later(
    plan: Plan, replaced: AbstractSet[str], up: Mapping[str, Sequence[str]]
) -> frozenset[str]:
    """Return who waits; nobody does where a role has an instance that nothing touches, or one."""
    later: set[str] = set()
    for role, running in up.items():
        touched = [name for name in running if name in replaced]
        if len(touched) < len(running):
            continue
        # Members that are down anyway come first: the router knows them, and takes them back.
        first = sum(i.role == role and i.id in replaced for i in plan.instances) - len(touched)
        if not first and len(touched) < 2:
            return frozenset()
        later |= set(touched if first else touched[(len(touched) + 1) // 2 :])
    return frozenset(later)


def _runs(facts: Mapping[str, HostFacts], host: str, name: str) -> bool:
    """Tell whether a container is there and gets requests."""
    seen = facts[host].container(name) if host in facts else None
    return seen is not None and seen.state == "running" and seen.health == "healthy"
