"""Who must be able to connect to whom: the pairs that a firewall must let through."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Instance, Plan

ANY_ADDRESS = ("0.0.0.0", "::")


class Frozen(BaseModel):
    """Base of everything here: immutable."""

    model_config = ConfigDict(frozen=True)


class Link(Frozen):
    """One connection between two machines that the service makes while it works.

    ``purpose`` is ``api`` (the router asks an engine) or ``kv`` (an engine asks another one for
    its KV). ``owner`` is the instance that listens.
    """

    source: str
    target: str
    address: str
    port: int
    purpose: Literal["api", "kv"]
    owner: str

    @property
    def endpoint(self) -> str:
        """Return ``address:port``, the name that probes use."""
        return f"{self.address}:{self.port}"


class Endpoint(Frozen):
    """An address and TCP port."""

    address: str
    port: int


class Probe(Frozen):
    """What one host does to try its part of the links: listen where nobody does yet, connect."""

    listen: tuple[Endpoint, ...] = ()
    connect: tuple[Endpoint, ...] = ()


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
    instances = {change.id for change in made if change.kind == "instance"}
    hosts = {change.host for change in made if change.kind == "instance"}
    routers = {change.host for change in made if change.kind == "router"}
    return tuple(
        link
        for link in links
        if link.owner in instances
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
    """Yield router → every engine, and decode → the KV side channels of every prefill."""

    def link(source: str, to: Instance, port: int, purpose: Literal["api", "kv"]) -> Link:
        return Link(
            source=source,
            target=to.host,
            address=addresses[to.host],
            port=port,
            purpose=purpose,
            owner=to.id,
        )

    for instance in plan.instances:
        yield link(plan.router.host, instance, instance.port, "api")
    # NIXL and Mooncake alike: decode fetches, so it asks prefill where the KV lies.
    for source in dict.fromkeys(instance.host for instance in plan.by_role("decode")):
        for prefill in plan.by_role("prefill"):
            for rank in range(prefill.tensor_parallel_size):
                yield link(source, prefill, prefill.kv_port + rank, "kv")


def _endpoint(link: Link) -> Endpoint:
    """Return where a link leads to."""
    return Endpoint(address=link.address, port=link.port)


def _listens(facts: HostFacts, link: Link) -> bool:
    """Tell whether somebody listens at the end of a link already."""
    return any(
        fact.port == link.port and fact.address in (link.address, *ANY_ADDRESS)
        for fact in facts.listening
    )
