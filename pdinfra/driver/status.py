"""The service now: containers as observed, members as they answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict

from pdinfra.model.facts import ContainerFact, ReplicaFact, ServeFact
from pdinfra.model.plan import Cluster, Part, Plan, RayCluster
from pdinfra.verify.engines import Client

Member = tuple[str, str, str, str]
"""A part of the service: id, role, host, URL."""


class MemberStatus(BaseModel):
    """One row of ``status``; ``state`` is Docker's word, ``ready`` that the member answers."""

    model_config = ConfigDict(frozen=True)

    id: str
    role: str
    host: str
    url: str
    state: str
    ready: bool


class ServiceStatus(BaseModel):
    """The ``status --json`` document, as data.

    ``stores`` are etcd and the workers of the data system, or the nodes of openYuanrong's full
    mode, ``ready`` by their containers' health. ``agents``: how many its master counted last.
    ``nodes`` are those of a Ray cluster.
    """

    model_config = ConfigDict(frozen=True)

    service: str
    healthy: bool
    instances: tuple[MemberStatus, ...]
    router: MemberStatus
    stores: tuple[MemberStatus, ...] = ()
    agents: int | None = None
    nodes: tuple[MemberStatus, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return plain data in the shape of the contract."""
        data = self.model_dump(mode="json")
        data["router"] = {
            key: data["router"][key] for key in ("id", "host", "url", "state", "ready")
        }
        return data


def status(
    plan: Plan,
    containers: Mapping[str, Sequence[ContainerFact]],
    notes: Mapping[str, str] | None = None,
    serve: ServeFact | None = None,
) -> ServiceStatus:
    """Ask every member at once, from here; containers: each observed host's, as seen last.

    notes: what the master's host had in its files of notes, where it was asked for them. serve:
    what Ray Serve said that it has.
    """
    router = plan.router
    members: list[Member] = [(i.id, i.role, i.host, i.url) for i in plan.instances]
    members.append((router.id, "router", router.host, router.url))
    with Client() as client, ThreadPoolExecutor(max_workers=32) as pool:
        # The guides' entry knows POST alone.
        method = "POST" if plan.cluster else "GET"
        known = not plan.router.static
        ready = list(
            pool.map(lambda m: client.healthy(m[3], method=method, path_known=known), members)
        )
    partial = {instance.id: instance.parts for instance in plan.instances if instance.parts}
    rows = [
        _row(member, containers, ready=answers)
        for member, answers in zip(members, ready, strict=True)
    ]
    *instances, entry = (_with_parts(row, partial.get(row.id, ()), containers) for row in rows)
    counted = _counted(plan.cluster, notes)
    if plan.cluster:
        node = plan.cluster.master
        entry = entry.model_copy(update={"state": _state(containers, node.host, node.id)})
    stores = _stores(plan, containers)
    instances += replica_rows(plan.ray, plan.router.url, serve) if plan.ray else ()
    nodes = _nodes(plan.ray, containers) if plan.ray else ()
    every = (*instances, entry, *stores, *nodes)
    healthy = all(row.ready and row.state == "running" for row in every)
    if plan.cluster and notes is not None:
        healthy = healthy and counted == len(plan.cluster.nodes)
    return ServiceStatus(
        service=plan.service,
        healthy=healthy,
        instances=tuple(instances),
        router=entry,
        stores=stores,
        agents=counted,
        nodes=nodes,
    )


def _stores(
    plan: Plan, containers: Mapping[str, Sequence[ContainerFact]]
) -> tuple[MemberStatus, ...]:
    """Return etcd and the workers, if the service has them."""
    if plan.store is None:
        return ()
    parts: list[Member]
    if plan.cluster:
        masters = {node.id for node in plan.cluster.nodes if node.master}
        parts = [
            (w.id, "yr-master" if w.id in masters else "yr-agent", w.host, w.endpoint)
            for w in plan.store.workers
        ]
    else:
        parts = [(m.id, "etcd", m.host, m.url) for m in plan.store.etcd]
        parts += [(w.id, "datasystem", w.host, w.endpoint) for w in plan.store.workers]
    healthy = _healthy(containers)
    return tuple(_row(p, containers, ready=(p[2], p[0]) in healthy) for p in parts)


def replica_rows(ray: RayCluster, entry: str, serve: ServeFact | None) -> tuple[MemberStatus, ...]:
    """Return a row for each planned replica: those that Ray has on its host, running ones first.

    Those that Ray may do without, and does, have none.
    """
    there: dict[tuple[str, str], list[ReplicaFact]] = {}
    found_all = serve.replicas if serve else ()
    # One that stops has its successor beside it.
    for replica in sorted(found_all, key=lambda each: each.state != "RUNNING"):
        there.setdefault((replica.deployment, replica.address), []).append(replica)
    rows = []
    for planned in ray.replicas:
        mine = there.get((planned.deployment, planned.address), [])
        found = mine.pop(0) if mine else None
        state = found.state.lower() if found else ("absent" if serve else "unknown")
        rows.append(
            MemberStatus(
                id=planned.id,
                role=planned.role,
                host=planned.host,
                url=entry,
                state=state,
                ready=state == "running",
            )
        )
    there_now = Counter(row.role for row in rows if row.state != "absent")
    spare = {row.role for row in rows if there_now[row.role] >= ray.fewest(row.role)}
    return tuple(row for row in rows if row.state != "absent" or row.role not in spare)


def _nodes(
    ray: RayCluster, containers: Mapping[str, Sequence[ContainerFact]]
) -> tuple[MemberStatus, ...]:
    """Return the nodes of the cluster, ``ready`` by their containers' health."""
    healthy = _healthy(containers)
    rows = []
    for node in ray.nodes:
        role = "ray-head" if node.head else "ray-node"
        part = (node.id, role, node.host, node.address)
        rows.append(_row(part, containers, ready=(node.host, node.id) in healthy))
    return tuple(rows)


def _healthy(containers: Mapping[str, Sequence[ContainerFact]]) -> set[tuple[str, str]]:
    """Return host and id of every container that is healthy."""
    return {
        (host, container.id)
        for host, mine in containers.items()
        for container in mine
        if container.health == "healthy"
    }


def _counted(cluster: Cluster | None, notes: Mapping[str, str] | None) -> int | None:
    """Return how many nodes openYuanrong's master counted last; None if it says no number."""
    text = (notes or {}).get(cluster.agents, "") if cluster else ""
    return int(text) if text.isdigit() else None


def _row(
    part: Member, containers: Mapping[str, Sequence[ContainerFact]], *, ready: bool
) -> MemberStatus:
    """Return one part's row."""
    name, role, host, url = part
    state = _state(containers, host, name)
    return MemberStatus(id=name, role=role, host=host, url=url, state=state, ready=ready)


def _with_parts(
    row: MemberStatus, parts: Sequence[Part], containers: Mapping[str, Sequence[ContainerFact]]
) -> MemberStatus:
    """Return an instance's row with what is wrong on its further hosts, for it needs them all."""
    for part in parts:
        found = next((c for c in containers.get(part.host, ()) if c.id == part.id), None)
        if found is not None and found.state == "running" and found.health == "healthy":
            continue
        state = _state(containers, part.host, part.id)
        word = "not connected" if state == "running" else state
        return row.model_copy(update={"state": f"{part.id} {word}", "ready": False})
    return row


def _state(containers: Mapping[str, Sequence[ContainerFact]], host: str, name: str) -> str:
    """Return Docker's word for a container's state, or that there is none."""
    if host not in containers:
        return "unknown"
    return next((c.state for c in containers[host] if c.id == name), "absent")
