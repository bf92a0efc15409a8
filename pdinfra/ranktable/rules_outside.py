"""Rules against what is known from elsewhere: hosts, live addresses, ports, containers, files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import sha256

from pdinfra.ranktable.findings import AGAIN, Finding, Known, Set, Stat, finding
from pdinfra.ranktable.read import ServerSeen, Table
from pdinfra.ranktable.shape import shown


def check(tables: Set, known: Known) -> Iterator[Finding]:
    """Yield what contradicts what is known."""
    for table in tables.tables:
        yield from _hosts(table, known)
        yield from _live(table, known)
        yield from _sizes(table, known)
        yield from _containers(table, known)
        yield from _file(table, known)
    for table in tables.whole:
        yield from _ports(table, known)
        yield from _copies(table, known)


def _hosts(table: Table, known: Known) -> Iterator[Finding]:
    """Check that every server is a host."""
    for server in table.servers:
        if known.hosts is not None and server.address and server.address not in known.hosts:
            found, fix = shown(server.address), "write it again with `ranktable gen --ip`"
            yield finding("host", table, server.path, found, "an address of a host", fix)


def _live(table: Table, known: Known) -> Iterator[Finding]:
    """Compare every device's address with what its host says now."""
    for server in table.servers:
        live = known.live.get(server.address or "")
        if live is None:
            continue
        for card in server.cards:
            if card.device_id is None or not card.device_id.isdecimal():
                continue
            path, now = f"{card.path}.device_ip", live.get(int(card.device_id))
            if now is None:
                found = f"device {card.device_id}, which {server.address} does not have"
                fix = "use devices that the host has, with an address, then write it again"
                yield finding("live", table, path, found, "a device with an address", fix)
            elif card.device_ip is not None and card.device_ip != now:
                found = f"{shown(card.device_ip)}, stale"
                expected = f'"{now}", the address of device {card.device_id} now'
                yield finding("live", table, path, found, expected, AGAIN)


def _sizes(table: Table, known: Known) -> Iterator[Finding]:
    """Compare the tensor-parallel size with the devices; vllm-ascend's lists hold several."""
    for role, size in known.tensor_parallel.items():
        for server in table.servers:
            count = len(server.cards)
            listed = table.kind == "vllm-ascend"
            if server.role != role or (count % size == 0 if listed else count == size):
                continue
            expected = f"{'a multiple of ' if listed else ''}{size}: --tensor-parallel-size"
            fix = f"give {role} instances {size} devices, or that tensor-parallel size"
            found = f"{count} devices"
            yield finding("tensor-parallel", table, server.path, found, expected, fix)


def _containers(table: Table, known: Known) -> Iterator[Finding]:
    """Compare an instance's devices with its container's."""
    if table.format == "vllm-ascend":
        return
    for server in table.servers:
        given = known.containers.get(server.name) if server.cards else None
        if given is not None and sorted(map(str, given)) != sorted(server.devices):
            found = f"devices {','.join(server.devices)}"
            expected = f"{','.join(map(str, given))}: the container's /dev/davinci*"
            fix = "start the container with exactly the table's devices"
            yield finding("container", table, server.path, found, expected, fix)


def _file(table: Table, known: Known) -> Iterator[Finding]:
    """Check that the container's user can read the file, and that the network is not newer."""
    stat = known.stats.get(table.file)
    if stat is None:
        return
    if known.reader is not None and not _readable(stat, *known.reader):
        found = f"mode {stat.mode & 0o777:04o} of user {stat.uid}"
        fix = f"chmod 0644 {table.file}"
        yield finding("readable", table, "$", found, f"readable for user {known.reader[0]}", fix)
    if known.network_changed is not None and stat.changed < known.network_changed:
        found, expected = "older than the last change of a device's address", "newer"
        yield finding("stale", table, "$", found, expected, AGAIN)


def _readable(stat: Stat, uid: int, gid: int) -> bool:
    """Tell whether a user may read a file."""
    if uid == 0:
        return True
    if uid == stat.uid:
        return bool(stat.mode & 0o400)
    return bool(stat.mode & (0o040 if gid == stat.gid else 0o004))


def _ports(table: Table, known: Known) -> Iterator[Finding]:
    """Compare NODE_PORTS with the table's instances, prefill first; no port twice on a host."""
    instances = [server for server in table.servers if server.role in ("prefill", "decode")]
    instances.sort(key=lambda server: server.role == "decode")
    path = "$.server_group_list"
    if known.node_ports is not None and len(known.node_ports) != len(instances):
        found = f"{len(instances)} instances, NODE_PORTS has {len(known.node_ports)} ports"
        fix = "give NODE_PORTS one port for each instance, prefill first, in the table's order"
        yield finding("ports", table, path, found, "as many ports as instances", fix)
    elif known.node_ports is not None:
        yield from _port_order(table, instances, known.node_ports, known)
    users: dict[tuple[str | None, int], list[ServerSeen]] = defaultdict(list)
    for server in instances:
        if server.name in known.ports:
            users[server.address, known.ports[server.name]].append(server)
    for (host, port), servers in users.items():
        if len(servers) > 1:
            names = " and ".join(f"{each.role} {each.name}" for each in servers)
            expected, fix = "a port of its own for each", "start one of them with another --port"
            found = f"port {port} of {host} for {names}"
            yield finding("ports", table, servers[1].path, found, expected, fix)


def _port_order(
    table: Table, instances: list[ServerSeen], node_ports: tuple[str, ...], known: Known
) -> Iterator[Finding]:
    """Compare NODE_PORTS with the instances' own ports; where unknown, none twice on a host."""
    for server, said in zip(instances, node_ports, strict=True):
        port = known.ports.get(server.name)
        if known.ports and port is None:
            found, expected = f"{server.name}, whose --port is not known", "a known instance"
            yield finding("ports", table, server.path, found, expected, AGAIN)
        elif port is not None and said != str(port):
            found = f"{said} for it in NODE_PORTS"
            expected = f"{port}: the --port of {server.role} {server.name}"
            fix = "put NODE_PORTS in the table's order, prefill first"
            yield finding("ports", table, server.path, found, expected, fix)
    if known.ports:
        return
    places = Counter((s.address, said) for s, said in zip(instances, node_ports, strict=True))
    for (host, said), count in places.items():
        if count > 1:
            found = f"port {said} {count} times for {host} in NODE_PORTS"
            fix = "start each instance of a host with another --port"
            yield finding(
                "ports", table, "$.server_group_list", found, "each port once on a host", fix
            )


def _copies(table: Table, known: Known) -> Iterator[Finding]:
    """Compare every host's copy of the global table."""
    mine = sha256(table.text.encode()).hexdigest()
    other = [host for host, digest in known.copies.items() if digest != mine]
    if other:
        found = f"another copy on {', '.join(other)}"
        fix = "copy one table to every host, then restart what read the other one"
        yield finding("copies", table, "$", found, "the same on every host", fix)
