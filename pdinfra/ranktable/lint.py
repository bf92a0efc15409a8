"""Every rule on every table, all findings at once.

The rules are in four modules: ``shape`` (keys and types), ``rules_inside`` (one table for itself),
``rules_across`` (tables against each other), ``rules_outside`` (tables against what is known from
elsewhere: live addresses, ports, containers, files).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pdinfra.ranktable import rules_across, rules_inside, rules_outside, shape
from pdinfra.ranktable.ascendcloud import MERGED
from pdinfra.ranktable.findings import Finding, Known, Set
from pdinfra.ranktable.read import Table


def lint(tables: Sequence[Table], known: Known | None = None) -> list[Finding]:
    """Return everything that is wrong, in the order of the tables, each finding once.

    Give all tables of a service together: a merged table makes the other global ones its parts, and
    local tables are compared with the global one.
    """
    told = known or Known()
    together = _together(tables, told)
    found = [
        *(finding for table in tables for finding in _alone(table, told, together)),
        *rules_across.check(together),
        *rules_outside.check(together, told),
    ]
    order = {table.file: number for number, table in enumerate(tables)}
    return sorted(dict.fromkeys(found), key=lambda each: order.get(each.file, len(order)))


def _together(tables: Sequence[Table], known: Known) -> Set:
    """Tell whole global tables from those of one host."""
    global_ = [table for table in tables if table.kind == "ascendcloud-global"]
    merged = [table for table in global_ if table.name == MERGED]
    whole = merged or ([] if known.part else global_)
    return Set(
        tuple(tables),
        tuple(whole),
        tuple(table for table in global_ if table not in whole),
        tuple(table for table in tables if table.kind == "ascendcloud-local"),
    )


def _alone(table: Table, known: Known, together: Set) -> Iterator[Finding]:
    """Yield what is wrong with one table for itself."""
    yield from rules_inside.form(table, known)
    yield from shape.check(table)
    whole = table in together.whole or (table.kind == "vllm-ascend" and not known.part)
    yield from rules_inside.check(table, whole=whole)
