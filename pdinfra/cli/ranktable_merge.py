"""`ranktable merge`: several hosts' tables → the one that all of them read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pdinfra.cli.options import JsonOption, emit, out, reported
from pdinfra.cli.ranktable_files import read_all, write_all
from pdinfra.cli.ranktable_gen import SaveOption
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.ranktable.findings import Known
from pdinfra.ranktable.formats import WRITERS
from pdinfra.ranktable.lint import lint
from pdinfra.ranktable.read import Table, read
from pdinfra.ranktable.topology import File


def merge(
    global_ranktable_list: Annotated[
        list[Path],
        typer.Option(
            "--global-ranktable-list",
            metavar="FILE...",
            help="Tables to merge, two or more; NODE_PORTS repeats their order.",
        ),
    ],
    save_dir: SaveOption = Path(),
    json: JsonOption = False,
) -> None:
    """Merge the global tables of several hosts, as mode merge of the vendor's tool does."""
    with reported(json):
        if len(global_ranktable_list) < 2:
            fix = "name the global tables of two or more hosts"
            raise DriverError([f"--global-ranktable-list: one table. Fix: {fix}"], INVALID)
        tables = read_all(global_ranktable_list)
        files = write_all([_merged(tables)], save_dir)
    if json:
        emit({"ok": True, "files": files, "notes": []})
        return
    for path in files:
        out.print(path, markup=False, highlight=False, soft_wrap=True)


def _merged(tables: list[Table]) -> File:
    """Return the merged table. Raises DriverError with all that is wrong before or after."""
    lines = [str(finding) for table in tables for finding in lint([table], Known(part=True))]
    first = tables[0]
    for table in tables:
        if table.kind == "ascendcloud-local":
            fix = "merge the hosts' global tables"
            lines.append(f"{table.file}: a local table, which belongs to one instance. Fix: {fix}")
        elif table.kind is not None and table.kind != first.kind:
            found = f"{table.format} beside {first.format} of {first.file}"
            lines.append(f"{table.file}: {found}. Fix: write both in one format")
    if lines or first.format is None:
        raise DriverError(lines, FAILED)
    file = WRITERS[first.format].merge([table.document for table in tables])
    if wrong := lint([read(file.name, file.text)]):
        raise DriverError([str(finding) for finding in wrong], FAILED)
    return file
