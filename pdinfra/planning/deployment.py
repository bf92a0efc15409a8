"""openYuanrong's full mode: what is deployed on its nodes, what differs, and in which steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Cluster, Plan

ID = "engines"
TOLERANCE_SECONDS = 10.0
"""Hosts are looked at one after another; each tells ages by its own clock."""
NODES = ("master", "agent")
"""Kinds of changes of what a deployment stands on."""


class DeploymentWork(BaseModel):
    """What is done in the master's container. Empty commands: nothing in that step.

    ``clean`` comes before any node is touched, ``deploy`` when all nodes are counted.
    """

    model_config = ConfigDict(frozen=True)

    clean: tuple[str, ...] = ()
    deploy: tuple[str, ...] = ()


NO_DEPLOYMENT = DeploymentWork()


def with_master(
    plan: Plan, facts: Mapping[str, HostFacts], mine: Sequence[Change], everything: Sequence[Change]
) -> list[Change]:
    """Return a host's changes, its agent's too where the master starts anew, or has done so.

    Measured: agents that outlive their master are part of it again after 50 to 80 s; restarted
    ones at once.
    """
    starts = any(c.kind == "master" and c.action in ("create", "replace") for c in everything)

    def changed(change: Change) -> Change:
        if change.kind != "agent" or change.action != "keep":
            return change
        if not starts and not _outlived(plan, facts, change.host, change.id):
            return change
        reason = "its master starts anew" if starts else "its master was started anew after it"
        return change.model_copy(update={"action": "replace", "reason": reason})

    return [changed(change) for change in mine]


def _outlived(plan: Plan, facts: Mapping[str, HostFacts], host: str, node: str) -> bool:
    """Tell whether an agent has run for longer than its master."""
    if plan.cluster is None or plan.router.host not in facts:
        return False
    master = facts[plan.router.host].age(plan.cluster.master.id)
    agent = facts[host].age(node)
    return master is not None and agent is not None and master < agent - TOLERANCE_SECONDS


def deployment_changes(
    plan: Plan, facts: Mapping[str, HostFacts], everything: Collection[Change], *, down: bool
) -> list[Change]:
    """Return what happens to the deployment; everything: all other changes of all hosts."""
    cluster = plan.cluster
    if cluster is None or plan.router.host not in facts:
        return []
    seen = facts[plan.router.host]
    found = _digest(cluster, seen)
    answers = any(fact.port == plan.router.port for fact in seen.listening)
    row = {"host": plan.router.host, "kind": "deployment", "id": ID}
    if down:
        removed = {**row, "action": "remove", "reason": "down"}
        return [Change.model_validate(removed)] if _runs(cluster, seen) and found else []
    moved = _moved(everything) or _restarted(cluster, facts)
    action, reason = _verdict(cluster, found, answers, moved)
    return [Change.model_validate({**row, "action": action, "reason": reason})]


def unseen_deployment(plan: Plan) -> list[Change]:
    """Return the deployment as to be created, for hosts that were not looked at."""
    if plan.cluster is None:
        return []
    row = {"host": plan.router.host, "kind": "deployment", "id": ID, "action": "create"}
    return [Change.model_validate({**row, "reason": f"planned: {plan.cluster.summary}"})]


def deployment_work(
    plan: Plan, facts: Mapping[str, HostFacts], changes: Collection[Change]
) -> DeploymentWork:
    """Return the steps for the master's host; changes: those of this host, the deployment's too."""
    mine = [c for c in changes if c.kind == "deployment" and c.action != "keep"]
    cluster = plan.cluster
    if cluster is None or not mine:
        return NO_DEPLOYMENT
    seen = facts[plan.router.host]
    # Without a node that runs there is nothing to clean, and nobody who could.
    old = _runs(cluster, seen) and bool(_digest(cluster, seen))
    return DeploymentWork(
        clean=cluster.clean if old else (),
        deploy=() if mine[0].action == "remove" else cluster.deploy,
    )


def _verdict(cluster: Cluster, found: str, answers: bool, moved: str) -> tuple[str, str]:
    """Return action and reason."""
    if not found:
        return "create", f"not deployed: {cluster.summary}"
    if found != cluster.digest:
        return "replace", f"another one is deployed; planned: {cluster.summary}"
    if moved:
        return "replace", f"{moved} anew"
    if not answers:
        return "replace", "nobody listens at its entry"
    return "keep", f"as planned: {cluster.summary}"


def _moved(everything: Collection[Change]) -> str:
    """Return which nodes are made anew or removed, in words; empty if none is."""
    moved = [c for c in everything if c.kind in NODES and c.action != "keep"]
    return f"{', '.join(c.id for c in moved)} {'is' if len(moved) == 1 else 'are'}" if moved else ""


def _digest(cluster: Cluster, seen: HostFacts) -> str:
    """Return what the master's host says is deployed; empty: nothing."""
    return seen.notes.get(cluster.deployed, "").partition(" ")[0]


def _restarted(cluster: Cluster, facts: Mapping[str, HostFacts]) -> str:
    """Return which nodes were started after the deployment was made, in words."""
    host = facts[cluster.master.host]
    at = host.notes.get(cluster.deployed, "").partition(" ")[2]
    if not at.isdigit():
        return ""
    since = host.clock - int(at) - TOLERANCE_SECONDS
    ages = {n.id: facts[n.host].age(n.id) for n in cluster.nodes if n.host in facts}
    late = [name for name, age in ages.items() if age is not None and age < since]
    return f"{', '.join(late)} {'was' if len(late) == 1 else 'were'} started" if late else ""


def _runs(cluster: Cluster, seen: HostFacts) -> bool:
    """Tell whether the master's node runs."""
    found = seen.container(cluster.master.id)
    return found is not None and found.state == "running"
