"""A plan and what only its hosts know → the finished plan.

The inventory decides all but this: where a host has npu-smi, which interface has its address, and
the addresses of its devices. Added once for all hosts, when these have been looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Container, ContainerKind, ContainerSpec, HostPlan, Mount, Plan
from pdinfra.model.problems import Problem
from pdinfra.planning.containers import container
from pdinfra.planning.rank_tables import Texts, made, reading
from pdinfra.stacks.interfaces import interface_value, interface_variables

Spec = Callable[[HostPlan, Container], ContainerSpec]
"""A host's planned container → its spec as the host wants it; itself where nothing differs."""


TOLD: tuple[ContainerKind, ...] = ("instance", "head", "node")
"""Containers whose engines are told the interface."""


@dataclass(frozen=True)
class Finished:
    """A plan that the hosts' facts completed.

    ``tables`` are each host's files; ``gaps`` say why none could be made although some are read.
    Containers have then what their predecessors have.
    """

    plan: Plan
    tables: Mapping[str, Texts] = field(default_factory=dict)
    gaps: tuple[Problem, ...] = ()


def finish(plan: Plan, facts: Mapping[str, HostFacts]) -> Finished:
    """Return the plan with what only the hosts know; itself where that is nothing."""
    tables = made(plan, facts)
    spanning = {each for i in plan.instances if i.parts for each in i.containers}

    def spec(host: HostPlan, mine: Container) -> ContainerSpec:
        seen = facts.get(host.name)
        own = mine.spec
        if seen is not None:
            known = interface_variables(
                plan.stack, host.accelerator, spans=(host.name, mine.id) in spanning
            )
            own = _with_npu_smi(own, seen)
            own = _with_interface(mine, own, known, seen.network.interface(host.address), seen)
        if plan.rank_tables is None or mine.id not in tables.variables:
            return own
        return reading(own, plan.rank_tables.folder, tables.variables[mine.id])

    return Finished(_changed(plan, spec), tables.files, tables.gaps)


def _with_npu_smi(spec: ContainerSpec, seen: HostFacts) -> ContainerSpec:
    """Return the spec with npu-smi from where the host has it, bin or sbin."""
    places = seen.ascend.npu_smi if seen.ascend else ()
    wanted = [m for m in spec.mounts if m.source.endswith("/npu-smi")]
    if not places or not wanted or wanted[0].source in places:
        return spec
    own = Mount(source=places[0], target=places[0])
    mounts = tuple(own if mount in wanted else mount for mount in spec.mounts)
    return spec.model_copy(update={"mounts": mounts})


def _with_interface(
    mine: Container, spec: ContainerSpec, known: Iterable[str], interface: str, seen: HostFacts
) -> ContainerSpec:
    """Return an engine's spec with the interface of its host's address, where it is not given.

    known: the variables that name it. Without an interface the spec has what the container there
    has: nothing restarts for it.
    """
    names = known if mine.kind in TOLD else ()
    wanted = [name for name in names if name not in spec.env]
    found = seen.container(mine.id)
    now = found.spec.env if found else {}
    if interface:
        now = {name: interface_value(name, interface) for name in wanted}
    told = {name: now[name] for name in wanted if name in now}
    return spec.model_copy(update={"env": {**spec.env, **told}}) if told else spec


def _changed(plan: Plan, spec: Spec) -> Plan:
    """Return the plan with other specs; itself where every container keeps its own."""
    hosts = tuple(_changed_host(plan.service, host, spec) for host in plan.hosts)
    if all(new is old for new, old in zip(hosts, plan.hosts, strict=True)):
        return plan
    return plan.model_copy(update={"hosts": hosts})


def _changed_host(service: str, host: HostPlan, spec: Spec) -> HostPlan:
    """Return a host with other specs; itself where every container keeps its own."""
    specs = [spec(host, mine) for mine in host.containers]
    if all(new is mine.spec for new, mine in zip(specs, host.containers, strict=True)):
        return host
    containers = tuple(
        mine
        if new is mine.spec
        else container(service, mine.id, mine.role, mine.host, mine.kind, new)
        for new, mine in zip(specs, host.containers, strict=True)
    )
    return host.model_copy(update={"containers": containers})
