"""The rank tables that running containers read, against the hosts as they are now."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence, Set

from pdinfra.doctor.rules import Rule
from pdinfra.model.ascend import AscendFacts
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from pdinfra.model.problems import Problem
from pdinfra.ranktable.findings import Known, Stat
from pdinfra.ranktable.lint import lint
from pdinfra.ranktable.read import ServerSeen, Table
from pdinfra.ranktable.used import is_whole, named, used

TABLE = Rule(
    id="rank-table",
    what="The rank tables that containers read are whole, unedited, and as the devices are now.",
    expected="what pdinfra derived from the inventory and the devices' addresses",
    fix="`up` writes it anew, and restarts who reads it",
    source="guide ascendcloud-ranktable-pd; reference of the vendors' tools",
    severity="warn",
)
COPIES = Rule(
    id="rank-table-copies",
    what="All hosts have the same global rank table, by checksum.",
    expected="one table on all hosts",
    fix="`up` without --limit writes it on all hosts",
    source="guide ascendcloud-ranktable-pd: every instance reads the same global table",
    severity="warn",
)
MADE = Rule(
    id="npu-rank-table",
    what="A rank table can be made of what the hosts tell, for all hosts at once.",
    expected="the address of every planned device, and every host in this run",
    fix="run it for all hosts, without --limit",
    source="a table has all devices of the service: part of the hosts cannot change it",
)
RULES = (TABLE, COPIES, MADE)


def checks(
    plan: Plan,
    facts: Mapping[str, HostFacts],
    wanted: Mapping[str, Mapping[str, str]],
    gaps: Sequence[Problem],
) -> Iterator[Check]:
    """Yield the checks of all observed hosts.

    wanted: each host's tables by path, as they are to be; gaps: why there are none.
    """
    if plan.rank_tables is None:
        return
    hosts = [host for host in plan.active if host.name in facts]
    tables = {host.name: used(plan.rank_tables, facts[host.name]) for host in hosts}
    for host in hosts:
        if plan.rank_tables.format == "vllm-ascend" and not host.observe.devices:
            continue
        seen = facts[host.name]
        lost = [p for p in named(plan.rank_tables, seen) if p not in seen.rank_tables]
        yield from (TABLE.bad(host.name, f"{path}: not there") for path in lost)
        if tables[host.name] or not lost:
            yield from _table(plan, facts, host.name, tables[host.name])
    yield from _copies(tables)
    read_now = {path for host in hosts for path in named(plan.rank_tables, facts[host.name])}
    yield from _made(plan, facts, read_now, wanted, gaps)


def _table(
    plan: Plan, facts: Mapping[str, HostFacts], host: str, mine: Sequence[Table]
) -> Iterator[Check]:
    """Judge the tables of one host."""
    if not mine:
        yield TABLE.ok(host, "none is read yet: `up` writes it")
        return
    found = lint(mine, _known(plan, facts, host, mine))
    for each in found:
        yield TABLE.bad(host, f"{each.file}: {each.path}: {each.found}", expected=each.expected)
    if not found:
        yield TABLE.ok(host, f"{len(mine)} tables, all well")


def _known(plan: Plan, facts: Mapping[str, HostFacts], host: str, mine: Sequence[Table]) -> Known:
    """Return what the hosts tell besides the tables."""
    addresses = {planned.address: planned.name for planned in plan.active}
    live: dict[str, dict[int, str]] = {}
    for server in (server for table in mine for server in table.servers):
        name = addresses.get(server.address or "", "")
        seen = facts[name].ascend if name in facts else None
        if server.address and seen:
            planned = plan.host(name).observe.devices
            live.setdefault(server.address, {}).update(_live(server, planned, seen))
    files = facts[host].rank_tables
    router = facts[host].container(plan.router.id)
    ports = router.spec.env.get("NODE_PORTS", "") if router else ""
    return Known(
        format=plan.rank_tables.format if plan.rank_tables else None,
        live=live,
        hosts=frozenset(addresses),
        node_ports=tuple(ports.split(",")) if ports else None,
        stats={
            table.file: Stat(file.mode, file.uid, file.gid, file.changed)
            for table in mine
            if (file := files.get(table.file)) is not None
        },
        reader=NOBODY,
    )


def _live(server: ServerSeen, planned: Collection[int], seen: AscendFacts) -> dict[int, str]:
    """Return what a server's devices have now; of those that the plan left, what its table says."""
    devices = {}
    for card in server.cards:
        if card.device_id is None or not card.device_id.isdecimal():
            continue
        device = int(card.device_id)
        # Nobody asked for the address of a device that the plan leaves.
        now = seen.address(device) if device in planned else card.device_ip
        if now is not None:
            devices[device] = now
    return devices


NOBODY = (65534, 65534)
"""The containers' user is in the image only: a table is to be readable for all."""


def _copies(tables: Mapping[str, Sequence[Table]]) -> Iterator[Check]:
    """Compare the hosts' global tables with each other."""
    digests: dict[str, list[str]] = {}
    for host, mine in tables.items():
        for text in dict.fromkeys(table.text for table in mine if is_whole(table)):
            digests.setdefault(hashlib.sha256(text.encode()).hexdigest()[:12], []).append(host)
    if len(digests) == 1:
        yield COPIES.ok(", ".join(tables), next(iter(digests)))
    if len(digests) < 2:
        return
    usual = max(digests.values(), key=len)
    for digest, hosts in digests.items():
        if hosts is not usual:
            for host in hosts:
                yield COPIES.bad(host, f"{digest}, {usual[0]} has another one")


def _made(
    plan: Plan,
    facts: Mapping[str, HostFacts],
    read_now: Set[str],
    wanted: Mapping[str, Mapping[str, str]],
    gaps: Sequence[Problem],
) -> Iterator[Check]:
    """Judge whether a table can be made, and whether this run may change it."""
    for gap in gaps:
        yield MADE.bad(gap.host, f"{gap.thing}: {gap.cause}", fix=gap.fix)
    if gaps:
        return
    unseen = [host for host, files in wanted.items() if files and host not in facts]
    paths = {path for files in wanted.values() for path in files}
    # Not by the files: a run that failed leaves new ones, with readers of the old ones elsewhere.
    if unseen and not (read_now and read_now <= paths):
        found = f"the table changes, and {', '.join(unseen)} is not part of this run"
        yield MADE.bad(plan.router.host, found)
        return
    yield MADE.ok(plan.router.host, "it can")
