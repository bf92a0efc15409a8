"""Containers that find each other only when they start: one that starts anew takes all along.

Sources: vLLM v0.7.2 to v0.10.0, pynccl_pipe.py: group and communicator are made once, at the start.
vLLM v0.32.0, distributed/parallel_state.py: so are those of an engine over several hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pdinfra.model.changes import Change
from pdinfra.model.facts import ContainerFact, HostFacts
from pdinfra.model.plan import Plan

APART_SECONDS = 300
"""`up` starts all at once; one that came this much later lost the others, or was lost by them."""


@dataclass(frozen=True)
class Group:
    """Host and id of each container that starts with the others; ``name`` is what they are."""

    name: str
    containers: tuple[tuple[str, str], ...]


def groups(plan: Plan) -> Iterable[Group]:
    """Yield the engines of a connector that joins them at the start, and each engine's parts."""
    if plan.together:
        paired = [each for i in plan.instances if i.role != "mixed" for each in i.containers]
        yield Group("prefill and decode", tuple(paired))
        return
    for instance in plan.instances:
        if instance.parts and plan.ray is None:
            yield Group(f"the parts of {instance.id}", instance.containers)


def with_partners(
    plan: Plan, facts: Mapping[str, HostFacts], by_host: Mapping[str, list[Change]]
) -> dict[str, list[Change]]:
    """Return the changes in which nobody of such a group is replaced or created alone."""
    changes = (change for mine in by_host.values() for change in mine)
    anew = [c.id for c in changes if c.kind == "instance" and c.action in ("create", "replace")]
    told: dict[str, tuple[str, str]] = {}
    for group in groups(plan):
        why = _why(group, facts, anew)
        missing = [name for host, name in group.containers if host not in facts]
        unseen = (
            f"; {' and '.join(missing)} must start with it: run without --limit" if missing else ""
        )
        told |= dict.fromkeys((name for _, name in group.containers), (why, unseen)) if why else {}
    return {host: [_told(change, told) for change in mine] for host, mine in by_host.items()}


def _told(change: Change, told: Mapping[str, tuple[str, str]]) -> Change:
    """Return the change of a container that has to start with the others."""
    if change.kind != "instance" or change.id not in told or change.action == "remove":
        return change
    why, unseen = told[change.id]
    if change.action != "keep":
        return change.model_copy(update={"reason": change.reason + unseen})
    return change.model_copy(update={"action": "replace", "reason": why + unseen})


def _came_back_alone(found: Sequence[ContainerFact]) -> str:
    """Return who waits for the others in vain: Docker started it again, and not the others.

    One that is healthy after all found the others waiting for it.
    """
    starts = {c.id: datetime.fromisoformat(c.started_at) for c in found}
    first = min(starts.values(), default=None)
    late = (c.id for c in found if c.restarts and c.health != "healthy" and starts[c.id] != first)
    return next(late, "")


def _why(group: Group, facts: Mapping[str, HostFacts], changed: Sequence[str]) -> str:
    """Return why all must start anew; empty if they found each other. changed: who starts anew."""
    names = {name for _, name in group.containers}
    anew = [name for name in changed if name in names]
    if anew:
        return f"starts with {' and '.join(anew)}: they find each other only when they start"
    found = [facts[host].container(name) for host, name in group.containers if host in facts]
    if alone := _came_back_alone([c for c in found if c is not None and c.started_at]):
        return f"{alone} was started again alone: they find each other only when they start"
    starts = [datetime.fromisoformat(c.started_at) for c in found if c is not None and c.started_at]
    if len(starts) < 2 or (max(starts) - min(starts)).total_seconds() < APART_SECONDS:
        return ""
    minutes = int((max(starts) - min(starts)).total_seconds() / 60)
    return (
        f"{group.name} started {minutes} minutes apart: they find each other only when they start "
        "together"
    )
