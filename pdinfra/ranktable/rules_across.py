"""Rules between tables: local and global, merged and parts, copies of one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pdinfra.ranktable.ascendcloud import MERGED
from pdinfra.ranktable.findings import AGAIN, Finding, Set, finding
from pdinfra.ranktable.read import ServerSeen, Table, items, text
from pdinfra.ranktable.shape import shown


def check(tables: Set) -> Iterator[Finding]:
    """Yield what does not fit together."""
    yield from _copies(tables)
    yield from _parts(tables)
    for local in tables.locals:
        yield from _local(local, tables)
    yield from _missing(tables)
    if not (tables.whole or tables.parts):
        yield from _claims(tables.locals)


def _copies(tables: Set) -> Iterator[Finding]:
    """Check that files of one name, copies on several hosts, are equal."""
    first: dict[str, Table] = {}
    for table in tables.whole:
        original = first.setdefault(table.name, table)
        if original.text != table.text:
            found = f"other content than {original.file}"
            fix = "copy one table to every host, then restart what read the other one"
            yield finding("copies", table, "$", found, "the same on every host", fix)


def _parts(tables: Set) -> Iterator[Finding]:
    """Check that each part is in the merged table as it is: its servers, in its order."""
    for merged in (table for table in tables.whole if table.name == MERGED):
        for part in tables.parts:
            for number, group in enumerate(items(part.document, "server_group_list")):
                wanted = items(group, "server_list")
                there = _group(merged, text(group, "group_id"))
                if not _inside(wanted, there):
                    path = f"$.server_group_list[{number}].server_list"
                    found = f"servers that {merged.file} does not have so"
                    expected = "the same servers, next to each other, in this order"
                    fix = "one of them is stale or edited: gen on that host and merge again"
                    yield finding("merged", part, path, found, expected, fix)


def _group(table: Table, group_id: str | None) -> list[Any]:
    """Return the servers of a group."""
    for group in items(table.document, "server_group_list"):
        if text(group, "group_id") == group_id:
            return items(group, "server_list")
    return []


def _inside(wanted: Sequence[Any], there: Sequence[Any]) -> bool:
    """Tell whether a list is in another one, without a gap."""
    size = len(wanted)
    return any(list(there[at : at + size]) == list(wanted) for at in range(len(there) - size + 1))


def _local(local: Table, tables: Set) -> Iterator[Finding]:
    """Compare a local table with the global tables: same server, same devices in the same order."""
    if len(local.servers) != 1:
        return
    (mine,) = local.servers
    for table in (*tables.whole, *tables.parts):
        theirs = [each for each in table.servers if each.server_ip == mine.server_ip]
        if not theirs and table in tables.parts:
            continue
        same_role = [
            each for each in theirs if (each.role == "scheduler") == (mine.role == "scheduler")
        ]
        if any(_facts(each) == _facts(mine) for each in same_role):
            continue
        near = max(same_role, key=lambda each: _shared(each, mine), default=None)
        if near is None or (mine.cards and not _shared(near, mine)):
            found = f"{mine.name}, which {table.file} does not have"
            expected = "an instance of the global table"
        else:
            found, expected = _difference(mine, near)
            expected = f"{expected}, as {table.file} at {near.path}"
        fix = "write local and global tables together: gen, merge, then copy both"
        yield finding("local", local, mine.path, found, expected, fix)


def _facts(server: ServerSeen) -> tuple[Any, ...]:
    """Return what must be equal in a local and the global table."""
    cards = tuple((card.device_id, card.device_ip, card.rank_id) for card in server.cards)
    return server.server_id, server.server_ip, cards


def _shared(one: ServerSeen, other: ServerSeen) -> int:
    """Return how many device ids or addresses two servers share."""
    ids = {card.device_id for card in one.cards} & {card.device_id for card in other.cards}
    ips = {card.device_ip for card in one.cards} & {card.device_ip for card in other.cards}
    return len(ids) + len(ips)


def _difference(mine: ServerSeen, other: ServerSeen) -> tuple[str, str]:
    """Return in words how two servers differ."""
    if mine.devices != other.devices:
        return f"devices {','.join(mine.devices)}", f"devices {','.join(other.devices)}"
    for my_card, their_card in zip(mine.cards, other.cards, strict=True):
        for key in ("device_ip", "rank_id"):
            found, expected = getattr(my_card, key), getattr(their_card, key)
            if found != expected:
                device = f"device {my_card.device_id}: {key}"
                return f"{device} {shown(found)}", f"{device} {shown(expected)}"
    return f"server_id {shown(mine.server_id)}", f"server_id {shown(other.server_id)}"


def _missing(tables: Set) -> Iterator[Finding]:
    """Check that a host whose tables are here has one for each of its instances."""
    there = {
        (server.role == "scheduler", server.name) for t in tables.locals for server in t.servers
    }
    hosts = {server.server_ip for table in tables.locals for server in table.servers}
    for table in tables.whole:
        for server in table.servers:
            key = (server.role == "scheduler", server.name)
            if server.server_ip in hosts and server.server_ip and key not in there:
                found = f"no local_ranktable_{server.name}.json beside it"
                expected = "a local table for each instance and the scheduler"
                yield finding("local", table, server.path, found, expected, AGAIN)


def _claims(tables: Sequence[Table]) -> Iterator[Finding]:
    """Check that local tables without a global one do not share a device."""
    users: dict[tuple[str | None, str], Table] = {}
    for table in tables:
        for server in table.servers:
            for card in server.cards:
                if card.device_id is None:
                    continue
                first = users.setdefault((server.server_ip, card.device_id), table)
                if first is not table:
                    path = f"{card.path}.device_id"
                    found = f"device {card.device_id}, as in {first.file}"
                    fix = "give each instance cards of its own, then write the tables again"
                    yield finding("device", table, path, found, "each device once", fix)
