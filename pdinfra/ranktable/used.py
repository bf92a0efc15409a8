"""The tables that a host's containers are told to read, as they are there now."""

from __future__ import annotations

from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import RankTables
from pdinfra.ranktable.read import Table, read


def named(tables: RankTables, seen: HostFacts) -> list[str]:
    """Return each path once that a container is told, whether the host has a file there or not."""
    paths = (
        container.spec.env.get(name, "")
        for container in seen.containers
        for name in tables.environment
    )
    return [path for path in dict.fromkeys(paths) if path]


def used(tables: RankTables, seen: HostFacts) -> list[Table]:
    """Return each table once; what a container names and the host does not have is left out."""
    there = (path for path in named(tables, seen) if path in seen.rank_tables)
    return [read(path, seen.rank_tables[path].text) for path in there]


def is_whole(table: Table) -> bool:
    """Tell whether a table names all devices of the service."""
    return table.kind in ("ascendcloud-global", "vllm-ascend")
