"""Containers that find each other only when they start: one that starts anew takes all along.

Sources: vLLM v0.7.2 to v0.10.0, pynccl_pipe.py: group and communicator are made once, at the start.
vLLM v0.32.0, distributed/parallel_state.py: so are those of an engine over several hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
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
        if instance.parts:
            yield Group(f"the parts of {instance.id}", instance.containers)


def with_partners(
    plan: Plan, facts: Mapping[str, HostFacts], by_host: Mapping[str, list[Change]]
) -> dict[str, list[Change]]:
    """Return the changes in which nobody of such a group is replaced or created alone."""
    result = dict(by_host)
    for group in groups(plan):
        why = _why(group, facts, [change for mine in by_host.values() for change in mine])
        if not why:
            continue
        names = {name for _, name in group.containers}
        missing = [name for host, name in group.containers if host not in facts]
        unseen = (
            f"; {' and '.join(missing)} must start with it: run without --limit" if missing else ""
        )
        result = {
            host: [_told(c, names, why, unseen) for c in mine] for host, mine in result.items()
        }
    return result


def _told(change: Change, names: set[str], why: str, unseen: str) -> Change:
    """Return the change of a container that has to start with the others."""
    if change.kind != "instance" or change.id not in names or change.action == "remove":
        return change
    if change.action != "keep":
        return change.model_copy(update={"reason": change.reason + unseen})
    return change.model_copy(update={"action": "replace", "reason": why + unseen})


def _why(group: Group, facts: Mapping[str, HostFacts], changes: Sequence[Change]) -> str:
    """Return why all must start anew; empty if they found each other."""
    names = {name for _, name in group.containers}
    anew = [
        c.id
        for c in changes
        if c.kind == "instance" and c.id in names and c.action in ("create", "replace")
    ]
    if anew:
        return f"starts with {' and '.join(anew)}: they find each other only when they start"
    found = [facts[host].container(name) for host, name in group.containers if host in facts]
    starts = [datetime.fromisoformat(c.started_at) for c in found if c is not None and c.started_at]
    if len(starts) < 2 or (max(starts) - min(starts)).total_seconds() < APART_SECONDS:
        return ""
    minutes = int((max(starts) - min(starts)).total_seconds() / 60)
    return (
        f"{group.name} started {minutes} minutes apart: they find each other only when they start "
        "together"
    )
