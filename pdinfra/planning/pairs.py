"""Engines that find each other only when they start: one that starts anew takes its partner along.

Source: vLLM v0.7.2 to v0.10.0, pynccl_pipe.py: group and communicator are made once, at the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pdinfra.model.changes import Change
from pdinfra.model.facts import ContainerFact, HostFacts
from pdinfra.model.plan import Instance, Plan

APART_SECONDS = 300
"""`up` starts both at once; one that came this much later lost the other, or was lost by it."""


def with_partners(
    plan: Plan, facts: Mapping[str, HostFacts], by_host: Mapping[str, list[Change]]
) -> dict[str, list[Change]]:
    """Return the changes in which nobody of such a pair is replaced or created alone."""
    pair = [i for i in plan.instances if i.role != "mixed"]
    everything = [change for mine in by_host.values() for change in mine]
    why = _why(pair, facts, everything) if plan.together else ""
    if not why:
        return dict(by_host)
    names = {instance.id for instance in pair}
    missing = [i.id for i in pair if i.host not in facts]
    unseen = f"; {' and '.join(missing)} must start with it: run without --limit" if missing else ""
    return {host: [_told(c, names, why, unseen) for c in mine] for host, mine in by_host.items()}


def _told(change: Change, names: set[str], why: str, unseen: str) -> Change:
    """Return the change of an engine that has to start with the others."""
    if change.kind != "instance" or change.id not in names or change.action == "remove":
        return change
    if change.action != "keep":
        return change.model_copy(update={"reason": change.reason + unseen})
    return change.model_copy(update={"action": "replace", "reason": why + unseen})


def _why(
    pair: Sequence[Instance], facts: Mapping[str, HostFacts], changes: Sequence[Change]
) -> str:
    """Return why all must start anew; empty if they found each other."""
    names = {instance.id for instance in pair}
    anew = [
        c.id
        for c in changes
        if c.kind == "instance" and c.id in names and c.action in ("create", "replace")
    ]
    if anew:
        return f"starts with {' and '.join(anew)}: they find each other only when they start"
    found = [_found(instance, facts) for instance in pair]
    starts = [datetime.fromisoformat(c.started_at) for c in found if c is not None and c.started_at]
    if len(starts) < 2 or (max(starts) - min(starts)).total_seconds() < APART_SECONDS:
        return ""
    minutes = int((max(starts) - min(starts)).total_seconds() / 60)
    return (
        f"prefill and decode started {minutes} minutes apart: they find each other only when they "
        "start together"
    )


def _found(instance: Instance, facts: Mapping[str, HostFacts]) -> ContainerFact | None:
    """Return an instance's container, if its host was looked at and has it."""
    seen = facts.get(instance.host)
    return seen.container(instance.id) if seen else None
