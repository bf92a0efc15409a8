"""`ranktable show`: hosts, instances, cards and ranks as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pdinfra.cli.options import JsonOption, emit, err, out, reported
from pdinfra.cli.ranktable_files import read_all
from pdinfra.cli.ranktable_lint import FilesArgument
from pdinfra.cli.tables import show_hosts
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.ranktable.picture import document, hosts, main_table, svg


def show(
    files: FilesArgument,
    picture: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw into this file as well.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Draw the table that says the most of those given: the merged one, else a global one."""
    with reported(json):
        tables = read_all(files)
        table = main_table(tables)
        if table is None:
            names = ", ".join(each.file for each in tables)
            fix = "`ranktable lint` says what they are"
            raise DriverError([f"{names}: no rank table. Fix: {fix}"], INVALID)
        drawn = hosts(table)
        if picture is not None:
            _write(picture, svg(drawn, table.name))
    if json:
        emit(document(table, drawn))
        return
    show_hosts(out, drawn)
    if picture is not None:
        err.print(f"→ {picture}", markup=False, highlight=False, soft_wrap=True)


def _write(path: Path, text: str) -> None:
    """Write the picture. Raises DriverError where it cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        line = f"--svg {path}: {error.strerror}. Fix: name a file in a folder that exists"
        raise DriverError([line], FAILED) from None
