"""Who must be able to connect to whom: the pairs that a firewall must let through."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from urllib.parse import urlsplit

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Instance, Plan, RayCluster, Store
from pdinfra.model.reach import Endpoint, Link, Probe, Purpose

KEEPERS = ("etcd", "worker", "master", "agent")
"""Kinds of containers with a part of the data system."""
NODES = ("head", "node")
"""Kinds of containers that are nodes of a Ray cluster."""
OWNERS = ("instance", *KEEPERS, *NODES)
ANY_ADDRESS = ("0.0.0.0", "::")


def links(plan: Plan) -> tuple[Link, ...]:
    """Return every connection between two machines, in the plan's order."""
    addresses = {host.name: host.address for host in plan.hosts}
    return tuple(
        link for link in _all(plan, addresses) if addresses[link.source] != addresses[link.target]
    )


def links_of(links: Collection[Link], changes: Collection[Change]) -> tuple[Link, ...]:
    """Return the links of instances that are to be made: what runs was tried when it was made.

    A new router is an end of all links that start at it.
    """
    made = [change for change in changes if change.action in ("create", "replace")]
    owners = {change.id for change in made if change.kind in OWNERS}
    nodes = {change.host for change in made if change.kind in NODES}
    keepers = {change.host for change in made if change.kind in KEEPERS}
    hosts = {change.host for change in made if change.kind == "instance"}
    routers = {change.host for change in made if change.kind == "router"}
    return tuple(
        link
        for link in links
        if link.owner in owners
        or (link.purpose in ("etcd", "data", "functions") and link.source in keepers)
        or (link.purpose == "ray" and link.source in nodes)
        or (link.purpose == "kv" and link.source in hosts)
        or (link.purpose == "api" and link.source in routers)
    )


def probes(links: Collection[Link], facts: Mapping[str, HostFacts]) -> dict[str, Probe]:
    """Return what each host has to do to try the links; hosts without a part are left out."""
    seen = [link for link in links if link.source in facts and link.target in facts]
    hosts = dict.fromkeys(host for link in seen for host in (link.source, link.target))
    return {
        host: Probe(
            listen=tuple(
                dict.fromkeys(
                    _endpoint(link)
                    for link in seen
                    if link.target == host and not _listens(facts[host], link)
                )
            ),
            connect=tuple(dict.fromkeys(_endpoint(link) for link in seen if link.source == host)),
        )
        for host in hosts
    }


def _all(plan: Plan, addresses: Mapping[str, str]) -> Iterator[Link]:
    """Yield router → engines, their parts → them, decode → the KV side channels of prefill."""

    def link(source: str, to: Instance, port: int, purpose: Purpose) -> Link:
        return _link(addresses, source, to.host, port, purpose, to.id)

    if plan.ray is not None:
        yield from _of_ray(plan, plan.ray, addresses)
    for instance in plan.instances:
        yield link(plan.router.host, instance, instance.port, "api")
        for part in instance.parts if plan.ray is None else ():
            yield link(part.host, instance, instance.master_port, "parts")
    if plan.store is not None:
        # KV goes by the data system: engines do not ask each other.
        yield from _of_store(plan.store, addresses)
        yield from _of_nodes(plan, addresses)
        return
    # NIXL and Mooncake alike: decode fetches, so it asks prefill where the KV lies.
    for source in dict.fromkeys(instance.host for instance in plan.by_role("decode")):
        for prefill in plan.by_role("prefill"):
            for rank in range(prefill.tensor_parallel_size if prefill.kv_port else 0):
                yield link(source, prefill, prefill.kv_port + rank, "kv")


def _of_store(store: Store, addresses: Mapping[str, str]) -> Iterator[Link]:
    """Yield members among themselves, workers → members, workers among themselves."""
    workers = dict.fromkeys(worker.host for worker in store.workers)
    for member in store.etcd:
        for url, sources in (
            (member.url, dict.fromkeys([*workers, *(m.host for m in store.etcd)])),
            (member.peer_url, dict.fromkeys(m.host for m in store.etcd)),
        ):
            port = urlsplit(url).port or 0
            for source in sources:
                yield _link(addresses, source, member.host, port, "etcd", member.id)
    for worker in store.workers:
        for source in workers:
            yield _link(addresses, source, worker.host, worker.port, "data", worker.id)


def _of_ray(plan: Plan, ray: RayCluster, addresses: Mapping[str, str]) -> Iterator[Link]:
    """Yield nodes → the head, by which they join, and nodes → each other."""
    every = {"Ray's node manager", "Ray's object manager", "KV side channel"}
    for target in ray.nodes:
        for port in plan.host(target.host).ports:
            wanted = port.purpose in every or (target.head and port.purpose == "Ray's gcs")
            if port.owner != target.id or not wanted:
                continue
            for source in ray.nodes:
                yield _link(addresses, source.host, target.host, port.port, "ray", target.id)


def _of_nodes(plan: Plan, addresses: Mapping[str, str]) -> Iterator[Link]:
    """Yield nodes of openYuanrong's full mode → each other, by the other ports of their parts."""
    nodes = {node.id: node for node in plan.cluster.nodes} if plan.cluster else {}
    known = {"etcd", "etcd peers", "data", "API", "first runtime"}
    for target in nodes.values():
        for port in plan.host(target.host).ports:
            for source in nodes.values():
                if port.owner == target.id and port.purpose not in known:
                    yield _link(
                        addresses, source.host, target.host, port.port, "functions", target.id
                    )


def _link(
    addresses: Mapping[str, str], source: str, target: str, port: int, purpose: Purpose, owner: str
) -> Link:
    """Return a link to a host's address."""
    return Link(
        source=source,
        target=target,
        address=addresses[target],
        port=port,
        purpose=purpose,
        owner=owner,
    )


def _endpoint(link: Link) -> Endpoint:
    """Return where a link leads to."""
    return Endpoint(address=link.address, port=link.port)


def _listens(facts: HostFacts, link: Link) -> bool:
    """Tell whether somebody listens at the end of a link already."""
    return any(
        fact.port == link.port and fact.address in (link.address, *ANY_ADDRESS)
        for fact in facts.listening
    )
