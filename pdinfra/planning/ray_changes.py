"""A Ray cluster's containers depend on each other: one that is made anew takes others along."""

from __future__ import annotations

from collections.abc import Mapping

from pdinfra.model.changes import Change
from pdinfra.model.plan import Plan

ANEW = ("create", "replace")


def with_head(plan: Plan, by_host: Mapping[str, list[Change]]) -> dict[str, list[Change]]:
    """Return the changes with those that follow from a head, or from a node, that starts anew.

    A head that is made anew is another cluster: its nodes have to join that. One that only starts
    again is the same one, and nothing follows (measured). An engine whose workers Ray started ends
    with the node that had them.
    """
    if plan.ray is None:
        return dict(by_host)
    everything = [change for mine in by_host.values() for change in mine]
    head = any(c.kind == "head" and c.action in ANEW for c in everything)

    def follows(change: Change) -> str:
        if change.action != "keep":
            return ""
        if change.kind == "node" and head:
            return "its head is made anew, and that is another cluster"
        return ""

    nodes = {
        host: [_replaced(change, follows(change)) for change in mine]
        for host, mine in by_host.items()
    }
    everything = [change for mine in nodes.values() for change in mine]
    anew = {c.host: c.id for c in everything if c.kind in ("head", "node") and c.action in ANEW}
    lost = {
        instance.id: next(anew[host] for host, _ in instance.containers if host in anew)
        for instance in plan.instances
        if instance.parts and any(host in anew for host, _ in instance.containers)
    }
    return {
        host: [_replaced(c, _why(c, lost)) if c.action == "keep" else c for c in mine]
        for host, mine in nodes.items()
    }


def _why(change: Change, lost: Mapping[str, str]) -> str:
    """Return why an engine starts anew; empty if it need not."""
    if change.kind != "instance" or change.id not in lost:
        return ""
    return f"has workers on {lost[change.id]}, which starts anew"


def _replaced(change: Change, reason: str) -> Change:
    """Return a change as a replacement, if there is a reason for one."""
    if not reason:
        return change
    return change.model_copy(update={"action": "replace", "reason": reason})
