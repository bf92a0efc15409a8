"""The plan and the devices' addresses → rank tables, and how containers are told them.

A table is the one thing of a plan that the inventory alone does not decide: the devices' addresses
are the hosts'. So it is made here, once for all hosts, when these have been looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from pdinfra.model.facts import HostFacts
from pdinfra.model.inventory import Inventory
from pdinfra.model.paths import rank_table_dir
from pdinfra.model.plan import ContainerSpec, Instance, Mount, Plan, RankTables
from pdinfra.model.problems import Problem
from pdinfra.ranktable import ascendcloud, vllm_ascend
from pdinfra.ranktable.dump import dump
from pdinfra.ranktable.topology import Card, File, Server, Topology, problems
from pdinfra.ranktable.used import used
from pdinfra.stacks.ascendcloud import table_order
from pdinfra.versions.rank_tables import rank_table

DIGITS = 12
WANTS_SDID = (
    "an A3's table names the SDID of each device, which the facts do not have. "
    "Fix: set pd_connector to MooncakeConnectorV1, which reads no table"
)

Texts = dict[str, str]
"""By path on the host."""


@dataclass(frozen=True)
class Tables:
    """The tables of a service, once its hosts were looked at.

    ``files`` are each host's; ``gaps`` say why none could be made although some are read.
    ``variables`` are what containers are told by, by id: without tables those that the containers
    there have, so that a gap restarts nobody.
    """

    files: Mapping[str, Texts] = field(default_factory=dict)
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gaps: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Made:
    """Files by host, and by container id the paths in the order of the plan's variables."""

    files: Mapping[str, Texts]
    paths: Mapping[str, tuple[str, ...]]


def rank_tables(inventory: Inventory) -> RankTables | None:
    """Return which tables the service's engines read, by version table; None if they read none."""
    if not any({"prefill", "decode"} & {*h.roles} for h in inventory.hosts):
        # Mixed engines hand nothing over, whatever the connector.
        return None
    service = inventory.service
    image = next((h.settings.image for h in inventory.hosts if h.roles), None)
    row = rank_table(service.stack, service.connector, image or "")
    if row is None or row.format not in ("ascendcloud", "vllm-ascend"):
        return None
    folder = rank_table_dir(service.service)
    return RankTables(format=row.format, folder=folder, environment=row.environment)


def made(plan: Plan, facts: Mapping[str, HostFacts]) -> Tables:
    """Return the tables that a plan asks for, of what the hosts tell; none if none is read."""
    wanted = plan.rank_tables
    if wanted is None:
        return Tables()
    topology, gaps = _topology(plan, wanted, facts)
    if gaps:
        return Tables(variables=_as_found(wanted, facts), gaps=gaps)
    make = _ascendcloud if wanted.format == "ascendcloud" else _vllm_ascend
    new = make(plan, wanted, topology)
    variables = {
        name: dict(zip(wanted.environment, paths, strict=True)) for name, paths in new.paths.items()
    }
    return Tables(new.files, variables)


def reading(spec: ContainerSpec, folder: str, variables: Mapping[str, str]) -> ContainerSpec:
    """Return a spec with the tables' folder and the variables that name files in it."""
    mount = Mount(source=folder, target=folder)
    return spec.model_copy(
        update={"env": {**spec.env, **variables}, "mounts": (*spec.mounts, mount)}
    )


def _topology(
    plan: Plan, tables: RankTables, facts: Mapping[str, HostFacts]
) -> tuple[Topology, tuple[Problem, ...]]:
    """Return who is in the tables with which cards, and why that makes no table."""
    known = _written(plan, tables, facts)
    gaps = []
    servers: dict[str, list[Server]] = {"prefill": [], "decode": []}
    for instance in table_order(plan.instances):
        address = plan.host(instance.host).address
        cards = []
        seen = facts.get(instance.host)
        if (
            tables.format == "vllm-ascend"
            and seen
            and seen.ascend
            and seen.ascend.generation == "a3"
        ):
            gaps.append(Problem.of(instance.host, "rank table", WANTS_SDID))
        for device in instance.devices:
            ip = seen.ascend.address(device) if seen and seen.ascend else None
            ip = ip or known.get((address, device))
            if ip is None:
                gaps.append(_gap(instance, device, facts))
            else:
                cards.append(Card(device, ip))
        servers[instance.role].append(Server(address, tuple(cards)))
    entry = plan.host(plan.router.host).address
    made = Topology(tuple(servers["prefill"]), tuple(servers["decode"]), entry)
    names = {host.address: host.name for host in plan.active}
    wrong = () if gaps else problems(made)
    gaps += [p.model_copy(update={"host": names.get(p.host, p.host)}) for p in wrong]
    return made, tuple(dict.fromkeys(gaps))


def _written(
    plan: Plan, tables: RankTables, facts: Mapping[str, HostFacts]
) -> dict[tuple[str, int], str]:
    """Return the addresses in tables that are read now: for hosts that were not looked at."""
    found = {}
    unseen = {host.address for host in plan.active if host.name not in facts}
    for seen in facts.values() if unseen else ():
        for table in used(tables, seen):
            for server in table.servers:
                if server.address is None or server.address not in unseen:
                    continue
                for card in server.cards:
                    # Somebody may have edited the file, which the doctor tells.
                    if card.device_id and card.device_id.isdecimal() and card.device_ip:
                        found[server.address, int(card.device_id)] = card.device_ip
    return found


def _gap(instance: Instance, device: int, facts: Mapping[str, HostFacts]) -> Problem:
    """Return that a device's address is not known, or its host."""
    thing, cause = f"device {device}", "it has no address"
    fix = f"`hccn_tool -i {device} -ip -s address A netmask M`"
    if instance.host not in facts:
        thing = "its devices"
        cause = "the host was not looked at, and no table that is there names them all"
        fix = "run it for all hosts, without --limit"
    return Problem(host=instance.host, thing=thing, cause=cause, fix=fix)


def _ascendcloud(plan: Plan, tables: RankTables, topology: Topology) -> _Made:
    """Return the global table for every host, the local ones where they are read."""
    address = {host.name: host.address for host in plan.active}
    text = dump(ascendcloud.global_table(topology))
    one = len({*address.values()}) == 1
    name = f"global_ranktable_{topology.scheduler}.json" if one else ascendcloud.MERGED
    folder = f"{tables.folder}/{_digest(text)}"
    files = {host: {f"{folder}/{name}": text} for host in address}
    paths = {}

    def place(owner: str, host: str, local: File) -> None:
        files[host][f"{folder}/{local.name}"] = local.text
        paths[owner] = (f"{folder}/{name}", f"{folder}/{local.name}")

    for instance, server in zip(table_order(plan.instances), topology.servers, strict=True):
        place(instance.id, instance.host, ascendcloud.local_file(server))
    entry = address[plan.router.host]
    place(plan.router.id, plan.router.host, ascendcloud.host_file(entry))
    return _Made(files, paths)


def _vllm_ascend(plan: Plan, tables: RankTables, topology: Topology) -> _Made:
    """Return one list of all devices, in a folder for each instance.

    An engine looks up its own devices alone, so only a change of these makes it another folder: the
    others' come and go in the file, and it runs on.
    """
    document = vllm_ascend.table(topology)
    text = dump(document)
    # Both lists together have every server's cards, one server after the other.
    devices = iter([*document["prefill_device_list"], *document["decode_device_list"]])
    files: dict[str, Texts] = {host.name: {} for host in plan.active}
    paths = {}
    for instance, server in zip(table_order(plan.instances), topology.servers, strict=True):
        own = list(islice(devices, len(server.cards)))
        folder = f"{tables.folder}/{instance.id}-{_digest(json.dumps(own))}"
        path = f"{folder}/{vllm_ascend.NAME}"
        files[instance.host][path] = text
        paths[instance.id] = (path,)
    return _Made(files, paths)


def _digest(text: str) -> str:
    """Return the digest that names a folder."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _as_found(tables: RankTables, facts: Mapping[str, HostFacts]) -> dict[str, dict[str, str]]:
    """Return what the containers there are told, by id."""
    told = {
        found.id: {n: found.spec.env[n] for n in tables.environment if n in found.spec.env}
        for seen in facts.values()
        for found in seen.containers
    }
    return {name: env for name, env in told.items() if env}
