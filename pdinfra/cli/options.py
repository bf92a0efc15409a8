"""Options that all verbs share, and where output goes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pdinfra.assets import ROOT
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.driver.progress import Progress
from pdinfra.driver.run import Event, Run, run_playbook

InventoryOption = Annotated[
    Path,
    typer.Option(
        "--inventory",
        "-i",
        help="Inventory folder or file.",
        metavar="PATH",
        show_default="inventories/local",
    ),
]
LimitOption = Annotated[
    str | None, typer.Option("--limit", help="Only these hosts (Ansible's pattern).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, no more.")]

DEFAULT_INVENTORY = ROOT / "inventories" / "local"

WIDE = 160
"""Columns where there is no terminal to ask: a log's lines may be long, cells must stay whole."""

out = Console(width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, width=None if sys.stderr.isatty() else WIDE)


def emit(document: dict[str, Any]) -> None:
    """Write the one JSON document."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Turn a DriverError into one line for each reason and the exit code; never a traceback."""
    try:
        yield
    except DriverError as error:
        if as_json:
            emit({"ok": False, "errors": error.lines})
        for line in error.lines:
            err.print(f"✗ {line}", markup=False, highlight=False, style="red", soft_wrap=True)
        raise typer.Exit(error.code) from None


def require(inventory: Path) -> Path:
    """Return the inventory. Raises DriverError where there is none."""
    if not inventory.exists():
        fix = "name a folder or file with -i; inventories/ has examples"
        raise DriverError([f"{inventory}: no such inventory. Fix: {fix}"], INVALID)
    return inventory


def run(
    playbook: str,
    inventory: Path,
    limit: str | None,
    also: Callable[[Event], None] = lambda event: None,
    variables: Mapping[str, Any] | None = None,
) -> Run:
    """Run a playbook with progress on stderr. Raises DriverError where there is no inventory.

    variables: Ansible's extra variables.
    """
    require(inventory)
    with Progress(err) as progress:

        def listen(event: Event) -> None:
            progress(event)
            also(event)

        return run_playbook(playbook, inventory, limit=limit, listen=listen, variables=variables)


def finish(ok: bool) -> None:
    """Leave with 0 or 1."""
    raise typer.Exit(0 if ok else FAILED)
