"""Rules that one table must keep for itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pdinfra.model.addresses import is_ip, is_ipv4, is_loopback
from pdinfra.ranktable.ascendcloud import DECODE, PREFILL, SCHEDULER
from pdinfra.ranktable.dump import dump
from pdinfra.ranktable.findings import AGAIN, Finding, Known, finding
from pdinfra.ranktable.read import CardSeen, Kind, ServerSeen, Table, items, text
from pdinfra.ranktable.shape import shown

GLOBAL = re.compile(r"global_ranktable_(\d+\.\d+\.\d+\.\d+)\.json")
HCCL = re.compile(r"rank_table_\d+\.\d+\.\d+\.\d+_\d+\.json")
MEANINGS = {SCHEDULER: "the scheduler", PREFILL: "prefill", DECODE: "decode"}


def form(table: Table, known: Known) -> Iterator[Finding]:
    """Check that it is JSON, of the right format, and as a tool wrote it."""
    if table.error:
        yield finding("json", table, "$", f"no JSON ({table.error})", "JSON", AGAIN)
        return
    if table.mindie or table.kind is None:
        other = "MindIE's global table" if table.mindie else "no rank table"
        expected = known.format or "a rank table"
        yield finding("format", table, "$", other, expected, AGAIN)
        return
    if known.format not in (None, table.format):
        fix = f"write it again with `ranktable gen --format {known.format}`"
        yield finding("format", table, "$", str(table.format), str(known.format), fix)
    if table.kind not in ORDERS:
        return
    if table.text not in (dump(table.document), dump(table.document) + "\n"):
        layout = "4 spaces of indentation, each key once: what the tools write"
        yield finding("edited", table, "$", "another layout: edited by hand", layout, AGAIN)
    elif not _ordered(table.document, ORDERS[table.kind]):
        yield finding("edited", table, "$", "keys in another order", "the tools' order", AGAIN)


def check(table: Table, *, whole: bool) -> Iterator[Finding]:
    """Check counts, ranks, addresses, devices; ``whole`` tables must have all three groups."""
    if table.kind is None or table.mindie:
        return
    yield from _counts(table)
    yield from _ranks(table)
    yield from _servers(table)
    yield from _unique_devices(table)
    if table.kind == "ascendcloud-global":
        yield from _groups(table, whole)
        yield from _sizes(table)
        yield from _file_name(table)
    if table.kind == "ascendcloud-local":
        yield from _local(table)
    if table.kind == "hccl-1.2":
        yield from _pods(table)
    if table.kind in ("hccl-1.0", "hccl-1.2"):
        yield from _hccl_name(table)
    if table.kind == "vllm-ascend":
        yield from _lists(table, whole)


ORDERS: dict[Kind, Sequence[str]] = {
    "ascendcloud-global": ("version", "status", "server_group_list"),
    "ascendcloud-local": ("version", "status", "group_id", "server_count", "server_list"),
    "vllm-ascend": (
        *("version", "server_count", "prefill_device_list", "decode_device_list", "status"),
    ),
}
"""Keys in the order of the tools that write them; HCCL's tables have no tool, only documents."""

INSIDE = (
    *("group_id", "server_count", "server_list"),
    *("server_id", "server_ip", "device"),
    *("device_id", "device_ip", "super_pod_id", "super_device_id", "rank_id", "device_port"),
    "cluster_id",
)


def _ordered(value: object, keys: Sequence[str]) -> bool:
    """Tell whether the known keys of an object, and of all inside it, are in order."""
    if isinstance(value, list):
        return all(_ordered(each, INSIDE) for each in value)
    if not isinstance(value, dict):
        return True
    places = [keys.index(key) for key in value if key in keys]
    return places == sorted(places) and all(_ordered(each, INSIDE) for each in value.values())


def _counts(table: Table) -> Iterator[Finding]:
    """Compare every server_count with the servers that are there."""
    if table.kind == "vllm-ascend":
        hosts = {server.server_id for server in table.servers}
        yield from _count(table, table.document, "$", len(hosts), "hosts")
        return
    if table.kind != "ascendcloud-global":
        count = len(items(table.document, "server_list"))
        yield from _count(table, table.document, "$", count, "servers")
        return
    for number, group in enumerate(items(table.document, "server_group_list")):
        count = len(items(group, "server_list"))
        yield from _count(table, group, f"$.server_group_list[{number}]", count, "servers")


def _count(table: Table, value: object, path: str, count: int, what: str) -> Iterator[Finding]:
    """Compare one count, where there is one as a text."""
    said = text(value, "server_count")
    if said is not None and said != str(count):
        expected = f'"{count}": there are {count} {what}'
        yield finding("count", table, f"{path}.server_count", shown(said), expected, AGAIN)


def _ranks(table: Table) -> Iterator[Finding]:
    """Check that ranks count from 0, in each instance or through all servers, without a gap.

    vllm-ascend's cluster ids count from 1.
    """
    if table.kind == "vllm-ascend":
        # Of one host and role together: count in the order of the lists themselves.
        for number, (path, said) in enumerate(_clusters(table), start=1):
            if said is not None and said != str(number):
                place = f"{path}.cluster_id"
                yield finding("rank", table, place, shown(said), f'"{number}"', AGAIN)
        return
    if table.kind in ("hccl-1.0", "hccl-1.2"):
        yield from _ranks_through(table)
        return
    for server in table.servers:
        for rank, card in enumerate(server.cards):
            if card.rank_id is not None and card.rank_id != str(rank):
                expected = f'"{rank}": ranks count from 0 in each instance'
                path = f"{card.path}.rank_id"
                yield finding("rank", table, path, shown(card.rank_id), expected, AGAIN)


def _ranks_through(table: Table) -> Iterator[Finding]:
    """Check that HCCL's ranks are 0 to N-1, each once, and each server's without a gap."""
    last = sum(len(server.cards) for server in table.servers) - 1
    first: dict[int, str] = {}
    for server in table.servers:
        ranks = []
        for card in server.cards:
            if card.rank_id is None or not card.rank_id.isdecimal():
                continue
            rank, path = int(card.rank_id), f"{card.path}.rank_id"
            ranks.append(rank)
            if rank in first or rank > last:
                found = f"{shown(rank)}, as at {first[rank]}" if rank in first else shown(rank)
                expected = f"each of 0 to {last} once"
                yield finding("rank", table, path, found, expected, AGAIN)
            first.setdefault(rank, path)
        if ranks and max(ranks) - min(ranks) >= len(ranks):
            found = f"ranks {', '.join(map(str, sorted(ranks)))}"
            expected = "ranks without a gap: those of other servers are not between them"
            yield finding("rank", table, f"{server.path}.device", found, expected, AGAIN)


def _clusters(table: Table) -> Iterator[tuple[str, str | None]]:
    """Yield path and cluster id of every device in the order of the lists."""
    for name in ("prefill_device_list", "decode_device_list"):
        for number, device in enumerate(items(table.document, name)):
            yield f"$.{name}[{number}]", text(device, "cluster_id")


def _servers(table: Table) -> Iterator[Finding]:
    """Check the addresses of servers and devices."""
    cloud = table.format == "ascendcloud"
    if table.kind in ("hccl-1.0", "hccl-1.2"):
        yield from _unique_servers(table)
        yield from _families(table)
    for server in table.servers:
        told = cloud and None not in (server.server_id, server.server_ip)
        if told and server.server_id != server.server_ip:
            found = f"{shown(server.server_id)} with server_ip {shown(server.server_ip)}"
            path = f"{server.path}.server_id"
            yield finding("server", table, path, found, "both the same", AGAIN)
        if not table.kind or not table.kind.startswith("hccl"):
            key = "server_ip" if cloud else "server_id"
            said = server.server_ip if cloud else server.server_id
            yield from _address(table, f"{server.path}.{key}", said, "server-ip")
        for card in server.cards:
            yield from _address(table, f"{card.path}.device_ip", card.device_ip, "device-ip")


def _unique_servers(table: Table) -> Iterator[Finding]:
    """Check that HCCL's servers have ids of their own."""
    first: dict[str, str] = {}
    for server in table.servers:
        if server.server_id is not None and server.server_id in first:
            found = f"{shown(server.server_id)}, as at {first[server.server_id]}"
            path = f"{server.path}.server_id"
            yield finding("server", table, path, found, "each server once", AGAIN)
        first.setdefault(server.server_id or "", server.path)


def _families(table: Table) -> Iterator[Finding]:
    """Check that device addresses are of one family (HCCL: EI0001)."""
    cards = [card for _, card in _cards(table.servers) if card.device_ip and is_ip(card.device_ip)]
    for card in cards[1:]:
        if is_ipv4(card.device_ip or "") != is_ipv4(cards[0].device_ip or ""):
            found = f"{shown(card.device_ip)} beside {shown(cards[0].device_ip)}"
            path = f"{card.path}.device_ip"
            yield finding("device-ip", table, path, found, "IPv4 or IPv6, not both", AGAIN)


def _address(table: Table, path: str, said: str | None, rule: str) -> Iterator[Finding]:
    """Check one address, if there is a text."""
    of_host = rule == "server-ip"
    fix = (
        "write it again with `ranktable gen --ip` and the address that other hosts reach"
        if of_host
        else "set the device's address with hccn_tool, then write the table again"
    )
    expected = "the host's address" if of_host else "an IPv4 address of the NPUs' network"
    if said is None:
        return
    hccl = table.kind in ("hccl-1.0", "hccl-1.2")
    if is_loopback(said):
        yield finding(rule, table, path, f"{shown(said)}, the loopback", expected, fix)
    elif hccl and is_ip(said):
        return
    elif not is_ipv4(said):
        yield finding(rule, table, path, f"{shown(said)}, no IPv4 address", expected, fix)


def _unique_devices(table: Table) -> Iterator[Finding]:
    """Check that no device is there twice on its host, no device address or SDID twice at all."""
    fix = "give each instance cards of its own, then write the table again"
    ids: dict[tuple[str | None, str], str] = {}
    ips: dict[str, str] = {}
    dies: dict[tuple[str | None, str], str] = {}
    pods = _pod_of(table)
    for server, card in _cards(table.servers):
        if card.device_id is not None:
            key = (server.address, card.device_id)
            first = ids.setdefault(key, card.path)
            if first != card.path:
                found = f"device {card.device_id} of {server.address}, as at {first}"
                path = f"{card.path}.device_id"
                yield finding("device", table, path, found, "each device once", fix)
        if card.device_ip is not None:
            first = ips.setdefault(card.device_ip, card.path)
            if first != card.path:
                found = f"{shown(card.device_ip)}, as at {first}"
                path = f"{card.path}.device_ip"
                yield finding("device", table, path, found, "each address once", fix)
        if card.super_device_id is not None:
            pod = card.super_pod_id or pods.get(server.server_id)
            first = dies.setdefault((pod, card.super_device_id), card.path)
            if first != card.path:
                found = f"{shown(card.super_device_id)}, as at {first}"
                path = f"{card.path}.super_device_id"
                yield finding("device", table, path, found, "each SDID once in a pod", fix)


def _pod_of(table: Table) -> dict[str | None, str | None]:
    """Return the super pod of each of HCCL's servers."""
    return {
        text(server, "server_id"): text(pod, "super_pod_id")
        for pod in items(table.document, "super_pod_list")
        for server in items(pod, "server_list")
    }


def _cards(servers: Sequence[ServerSeen]) -> Iterator[tuple[ServerSeen, CardSeen]]:
    """Yield every card with its server."""
    for server in servers:
        for card in server.cards:
            yield server, card


def _groups(table: Table, whole: bool) -> Iterator[Finding]:
    """Check the groups: their ids in order, the scheduler's one server, who has devices."""
    groups = items(table.document, "server_group_list")
    ids = [text(group, "group_id") for group in groups]
    path = "$.server_group_list"
    known = [each for each in ids if each in MEANINGS]
    for first, second in pairwise(known):
        if first >= second:
            found = f'"{second}" after "{first}"'
            yield finding("groups", table, path, found, 'each once, in order "0", "1", "2"', AGAIN)
    for group, meaning in MEANINGS.items():
        if whole and group not in ids:
            fix = (
                "give --api-server to `ranktable gen` on exactly one host"
                if group == SCHEDULER
                else "merge the tables of all hosts with `ranktable merge`"
            )
            expected = f'three groups; "{group}" is {meaning}'
            yield finding("groups", table, path, f'no group "{group}"', expected, fix)
    schedulers = [server for server in table.servers if server.role == "scheduler"]
    if len(schedulers) > 1:
        found = f"{len(schedulers)} schedulers ({', '.join(str(s.address) for s in schedulers)})"
        fix = "give --api-server to `ranktable gen` on exactly one host"
        yield finding("scheduler", table, schedulers[1].path, found, "exactly one", fix)
    for server in table.servers:
        if server.role == "scheduler" and server.cards:
            place = f"{server.path}.device"
            yield finding("scheduler", table, place, "devices", "none: it uses no card", AGAIN)
        if server.role in ("prefill", "decode") and not server.cards:
            place = f"{server.path}.device"
            yield finding("devices", table, place, "no device", "the instance's devices", AGAIN)


def _sizes(table: Table) -> Iterator[Finding]:
    """Check that the instances of a role have as many devices as its first one.

    The vendor's tool measures prefill twice, and never decode.
    """
    for role in ("prefill", "decode"):
        servers = [server for server in table.servers if server.role == role]
        for server in servers[1:]:
            if len(server.cards) != len(servers[0].cards):
                found = f"{len(server.cards)} devices"
                expected = f"{len(servers[0].cards)}, as the first {role} instance has"
                fix = f"give every {role} instance the same tensor-parallel size"
                path = f"{server.path}.device"
                yield finding("tensor-parallel", table, path, found, expected, fix)


def _file_name(table: Table) -> Iterator[Finding]:
    """Check that a global table with a host's address in its name is that host's."""
    named = GLOBAL.fullmatch(table.name)
    if named is None:
        return
    for server in table.servers:
        if server.server_ip not in (None, named[1]):
            found = f"{shown(server.server_ip)} in a file of {named[1]}"
            fix = "merge with `ranktable merge`: its outcome has another name"
            yield finding("name", table, f"{server.path}.server_ip", found, named[1], fix)


def _local(table: Table) -> Iterator[Finding]:
    """Check that a local table has one server, and the name that belongs to it."""
    if len(table.servers) != 1:
        found = f"{len(table.servers)} servers"
        yield finding("count", table, "$.server_list", found, "one: the instance", AGAIN)
        return
    expected = f"local_ranktable_{table.servers[0].name}.json"
    if table.servers[0].address and table.name != expected:
        yield finding("name", table, "$", f"file name {table.name}", expected, "rename it")


def _hccl_name(table: Table) -> Iterator[Finding]:
    """Check that a file that `ranktable gen` named after one instance is that instance's."""
    if not HCCL.fullmatch(table.name) or len(table.servers) != 1:
        return
    expected = f"rank_table_{table.servers[0].name}.json"
    if table.servers[0].address and table.name != expected:
        yield finding("name", table, "$", f"file name {table.name}", expected, AGAIN)


def _pods(table: Table) -> Iterator[Finding]:
    """Check that every server is in a pod, no pod is there twice, and a pod's servers touch."""
    servers = [server.server_id for server in table.servers]
    placed: list[str | None] = []
    pods: set[str | None] = set()
    for number, pod in enumerate(items(table.document, "super_pod_list")):
        path = f"$.super_pod_list[{number}]"
        name = text(pod, "super_pod_id")
        if name in pods:
            yield finding(
                "pods", table, f"{path}.super_pod_id", shown(name), "each pod once", AGAIN
            )
        pods.add(name)
        members = [text(each, "server_id") for each in items(pod, "server_list")]
        for index, member in enumerate(members):
            if member is not None and (member not in servers or member in placed):
                found = shown(member)
                expected = "a server of server_list, in one pod"
                place = f"{path}.server_list[{index}].server_id"
                yield finding("pods", table, place, found, expected, AGAIN)
            placed.append(member)
        places = sorted(servers.index(member) for member in members if member in servers)
        if places and places[-1] - places[0] >= len(places):
            found = "servers apart in server_list"
            yield finding("pods", table, f"{path}.server_list", found, "next to each other", AGAIN)
    for server in table.servers:
        if server.server_id is not None and server.server_id not in placed:
            found = f"{shown(server.server_id)} in no pod"
            path = f"{server.path}.server_id"
            yield finding("pods", table, path, found, "a pod of super_pod_list", AGAIN)


def _lists(table: Table, whole: bool) -> Iterator[Finding]:
    """Check that both roles have devices, and super pods are told of all devices or of none."""
    for name in ("prefill_device_list", "decode_device_list"):
        if whole and items(table.document, name) == []:
            fix = "merge the tables of all hosts with `ranktable merge`"
            yield finding("groups", table, f"$.{name}", "no device", "at least one", fix)
    keys = ("super_pod_id", "super_device_id")
    devices = [
        (f"$.{name}[{number}]", device)
        for name in ("prefill_device_list", "decode_device_list")
        for number, device in enumerate(items(table.document, name))
        if isinstance(device, dict)
    ]
    if not any(key in device for _, device in devices for key in keys):
        return
    for path, device in devices:
        for key in keys:
            if key not in device:
                expected = "a text: other devices have it"
                yield finding("pods", table, f"{path}.{key}", "nothing", expected, AGAIN)
