"""In which order instances are replaced where the router goes on giving them requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan


def second_wave(plan: Plan, facts: Mapping[str, HostFacts], changes: Sequence[Change]) -> set[str]:
    """Return the instances that go on answering until the others are back.

    Empty where no request could be answered meanwhile, or where none needs to wait: a role has an
    instance that nothing touches, or it has only one. changes: all hosts'.
    """
    if not plan.router.static or not _runs(facts, plan.router.host, plan.router.id):
        return set()
    replaced = {c.id for c in changes if c.kind == "instance" and c.action == "replace"}
    later: set[str] = set()
    for role in ("prefill", "decode"):
        up = [i.id for i in plan.instances if i.role == role and _runs(facts, i.host, i.id)]
        touched = [name for name in up if name in replaced]
        if len(touched) < len(up):
            continue
        # Members that are down anyway come first: the router knows them, and takes them back.
        first = sum(i.role == role and i.id in replaced for i in plan.instances) - len(touched)
        if not first and len(touched) < 2:
            return set()
        later |= set(touched if first else touched[(len(touched) + 1) // 2 :])
    return later


def pauses(plan: Plan, facts: Mapping[str, HostFacts], changes: Sequence[Change]) -> str:
    """Return the role of which all running instances go at once, empty where none does."""
    replaced = {c.id for c in changes if c.kind == "instance" and c.action == "replace"}
    later = second_wave(plan, facts, changes)
    for role in ("prefill", "decode"):
        up = [i.id for i in plan.instances if i.role == role and _runs(facts, i.host, i.id)]
        if up and set(up) <= replaced - later:
            return role
    return ""


def _runs(facts: Mapping[str, HostFacts], host: str, name: str) -> bool:
    """Tell whether a container is there and gets requests."""
    seen = facts[host].container(name) if host in facts else None
    return seen is not None and seen.state == "running" and seen.health == "healthy"
