"""The service now: containers as observed, members as they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict

from pdinfra.model.facts import ContainerFact
from pdinfra.model.plan import Plan
from pdinfra.verify.engines import Client


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

    ``stores`` are etcd and the workers of the data system, ``ready`` by their containers' health.
    """

    model_config = ConfigDict(frozen=True)

    service: str
    healthy: bool
    instances: tuple[MemberStatus, ...]
    router: MemberStatus
    stores: tuple[MemberStatus, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return plain data in the shape of the contract."""
        data = self.model_dump(mode="json")
        data["router"] = {
            key: data["router"][key] for key in ("id", "host", "url", "state", "ready")
        }
        return data


def status(plan: Plan, containers: Mapping[str, Sequence[ContainerFact]]) -> ServiceStatus:
    """Ask every member at once, from here; containers: each observed host's, as seen last."""
    router = plan.router
    members: list[tuple[str, str, str, str]] = [
        (i.id, i.role, i.host, i.url) for i in plan.instances
    ]
    members.append((router.id, "router", router.host, router.url))
    with Client() as client, ThreadPoolExecutor(max_workers=32) as pool:
        ready = list(pool.map(lambda member: client.healthy(member[3]), members))
    rows = [
        MemberStatus(
            id=name,
            role=role,
            host=host,
            url=url,
            state=_state(containers, host, name),
            ready=answers,
        )
        for (name, role, host, url), answers in zip(members, ready, strict=True)
    ]
    *instances, entry = rows
    stores = _stores(plan, containers)
    healthy = all(row.ready and row.state == "running" for row in (*rows, *stores))
    return ServiceStatus(
        service=plan.service,
        healthy=healthy,
        instances=tuple(instances),
        router=entry,
        stores=stores,
    )


def _stores(
    plan: Plan, containers: Mapping[str, Sequence[ContainerFact]]
) -> tuple[MemberStatus, ...]:
    """Return etcd and the workers, if the service has them."""
    if plan.store is None:
        return ()
    parts = [(m.id, "etcd", m.host, m.url) for m in plan.store.etcd]
    parts += [(w.id, "datasystem", w.host, w.endpoint) for w in plan.store.workers]
    return tuple(
        MemberStatus(
            id=name,
            role=role,
            host=host,
            url=url,
            state=_state(containers, host, name),
            ready=any(c.id == name and c.health == "healthy" for c in containers.get(host, ())),
        )
        for name, role, host, url in parts
    )


def _state(containers: Mapping[str, Sequence[ContainerFact]], host: str, name: str) -> str:
    """Return Docker's word for a container's state, or that there is none."""
    if host not in containers:
        return "unknown"
    return next((c.state for c in containers[host] if c.id == name), "absent")
