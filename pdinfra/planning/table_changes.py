"""What happens to the rank tables of the hosts, why, and whom it touches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from pdinfra.model.changes import Change, FieldChange
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan, RankTables
from pdinfra.planning.changes import STAGES
from pdinfra.planning.finish import Finished
from pdinfra.planning.waves import Waves
from pdinfra.ranktable.read import Table, read
from pdinfra.ranktable.used import is_whole, named, used

MODE = 0o644
"""Readable for the containers' own user."""
SHOWN = 4


class TableFile(BaseModel):
    """A rank table to write."""

    model_config = ConfigDict(frozen=True)

    path: str
    text: str


class TableWork(BaseModel):
    """A host's files to write, and the folders that nobody reads any more once all runs."""

    model_config = ConfigDict(frozen=True)

    files: tuple[TableFile, ...] = ()
    removed: tuple[str, ...] = ()


NO_TABLES = TableWork()


def table_work(finished: Finished, host: str, seen: HostFacts) -> TableWork:
    """Return what a host lacks and has too much of."""
    wanted = finished.tables.get(host)
    if wanted is None:
        return NO_TABLES
    lacking = [path for path in wanted if _differs(seen, path, wanted[path])]
    address = finished.plan.host(host).address
    # Inventory hosts of one address are one machine, with one folder of tables.
    here = [finished.tables.get(h.name, {}) for h in finished.plan.active if h.address == address]
    keep = {_folder(path) for mine in here for path in mine}
    surplus = sorted({_folder(path) for path in seen.rank_tables} - keep)
    return TableWork(
        files=tuple(TableFile(path=path, text=wanted[path]) for path in lacking),
        removed=tuple(surplus),
    )


def with_tables(
    finished: Finished,
    facts: Mapping[str, HostFacts],
    by_host: Mapping[str, list[Change]],
    order: Waves,
) -> dict[str, list[Change]]:
    """Return the changes with those of tables, before those of containers that read them."""
    plan = finished.plan
    tables = plan.rank_tables
    if tables is None:
        return dict(by_host)
    everything = [change for mine in by_host.values() for change in mine]
    touched = [c.id for c in everything if c.action == "replace" and _reads(tables, c)]
    read_now = (t for seen in facts.values() for t in used(tables, seen))
    old = next((table for table in read_now if is_whole(table)), None)
    result = {}
    for host, mine in by_host.items():
        told = [_told(tables, change, order) for change in mine]
        at = sum(STAGES.index(change.kind) < STAGES.index("ranktable") for change in told)
        read_there = {_folder(path) for path in named(tables, facts[host])}
        own = _changes(finished, host, facts[host], old, touched, read_there)
        result[host] = [*told[:at], *own, *told[at:]]
    return result


def _changes(
    finished: Finished,
    host: str,
    seen: HostFacts,
    old: Table | None,
    touched: Sequence[str],
    read_there: Collection[str],
) -> Iterator[Change]:
    """Yield a host's folders that are to be made, mended, or taken away.

    touched: who is replaced for the tables alone; read_there: folders that containers read now.
    """
    wanted, work = finished.tables.get(host, {}), table_work(finished, host, seen)
    for folder in dict.fromkeys(_folder(path) for path in wanted):
        files = [file.path for file in work.files if _folder(file.path) == folder]
        if not files:
            continue
        there = [path for path in files if path in seen.rank_tables]
        new = next(t for path in wanted if is_whole(t := read(path, wanted[path])))
        reason = _rewritten(finished.plan, seen, there, new)
        if not there and folder in read_there:
            reason = "gone, although containers read it: written again"
        elif not there:
            reason = _difference(finished.plan, old, new)
            reason += f"; restarts {', '.join(touched)}" if touched else ""
        row = {"host": host, "kind": "ranktable", "id": folder, "reason": reason}
        yield Change.model_validate({**row, "action": "replace" if there else "create"})
    for folder in work.removed:
        row = {"host": host, "kind": "ranktable", "id": folder, "action": "remove"}
        yield Change.model_validate({**row, "reason": "no container reads it any more"})


def _told(tables: RankTables, change: Change, order: Waves) -> Change:
    """Say of a container what the paths in its environment mean, and when it is replaced."""
    if change.action != "replace" or change.kind not in ("instance", "router"):
        return change
    reason, fields = change.reason, change.fields
    if paths := _reads(tables, change):
        fields = tuple(field for field in fields if field not in paths)
        reason = "; ".join([*map(str, fields), "reads another rank table"])
    if change.kind == "instance" and order.later:
        reason += "; after the others are back" if change.id in order.later else "; first part"
    elif change.kind == "instance" and order.paused:
        reason += f"; the service pauses: no other {order.paused} goes on answering"
    return change.model_copy(update={"reason": reason, "fields": fields})


def _reads(tables: RankTables, change: Change) -> list[FieldChange]:
    """Return the fields of a container by which it reads another table than before."""
    names = {f"env {name}" for name in tables.environment}
    return [field for field in change.fields if field.field in names]


def _rewritten(plan: Plan, seen: HostFacts, there: Sequence[str], new: Table) -> str:
    """Return why files of a folder that stays are written anew; who reads them runs on.

    The others' devices come and go in vllm-ascend's table; all else is a person's change.
    """
    tables = (read(path, seen.rank_tables[path].text) for path in there)
    mine = (table for table in tables if table.kind == "vllm-ascend")
    said = [line for table in mine for line in _differences(plan, table, new)]
    if said:
        return f"{_listed(said)}; restarts nobody"
    return f"{', '.join(map(_name, there))}: not as written, made again"


def _difference(plan: Plan, old: Table | None, new: Table) -> str:
    """Return what a table says that the one in use does not."""
    if old is None:
        return "no table yet"
    if old.text == new.text:
        return "not on the host"
    return _listed(_differences(plan, old, new)) or "in another order"


def _differences(plan: Plan, old: Table, new: Table) -> list[str]:
    """Return the devices' new addresses, and who comes and goes."""
    hosts = {host.address: host.name for host in plan.active}
    before, after = _cards(old), _cards(new)
    said = [
        f"device {device} of {hosts.get(address, address)} has {after[address, device]} now, "
        f"not {ip}"
        for (address, device), ip in before.items()
        if after.get((address, device), ip) != ip
    ]
    ranks = {f"{s.role} {s.name}" for s in old.servers}, {f"{s.role} {s.name}" for s in new.servers}
    said += [f"with {name}" for name in sorted(ranks[1] - ranks[0])]
    said += [f"without {name}" for name in sorted(ranks[0] - ranks[1])]
    return said


def _listed(said: Sequence[str]) -> str:
    """Return the first lines as one, and how many more there are."""
    more = [f"and {len(said) - SHOWN} more"] if len(said) > SHOWN else []
    return ", ".join([*said[:SHOWN], *more])


def _cards(table: Table) -> dict[tuple[str, str], str]:
    """Return the devices' addresses by host and device."""
    return {
        (server.address or "", card.device_id or ""): card.device_ip or ""
        for server in table.servers
        for card in server.cards
    }


def _differs(seen: HostFacts, path: str, text: str) -> bool:
    """Tell whether a file is not there as it should be."""
    found = seen.rank_tables.get(path)
    return found is None or found.text != text or found.mode != MODE


def _folder(path: str) -> str:
    """Return a file's folder."""
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    """Return a file's name without its folder."""
    return path.rpartition("/")[2]
