"""`bench load`: how fast an engine gets its weights, from disk and from the data system."""

from __future__ import annotations

from typing import Annotated

import typer

from pdinfra.bench.load import Bench, Loaded, LoadResult, Shell, chosen
from pdinfra.cli.options import (
    DEFAULT_INVENTORY,
    InventoryOption,
    JsonOption,
    emit,
    err,
    out,
    reported,
    run,
)
from pdinfra.cli.tables import show_words
from pdinfra.driver.hosts import connections, on_host
from pdinfra.driver.look import planned


def load(
    instance: Annotated[
        str | None, typer.Argument(help="Id of an instance; default: the last.")
    ] = None,
    inventory: InventoryOption = DEFAULT_INVENTORY,
    max_minutes: Annotated[
        float, typer.Option(metavar="N", help="Longest time for an engine to be ready.")
    ] = 10,
    json: JsonOption = False,
) -> None:
    """Restart one engine twice: its weights from a cold disk, then from openYuanrong."""
    with reported(json):
        container = chosen(planned(run("playbooks/validate.yml", inventory, None)), instance)
        variables = connections(inventory)[container.host]
        shell = Shell(container.host, lambda words: on_host(container.host, variables, words))
        found = Bench(container, shell, max_minutes * 60, _say).measure()
    if json:
        emit(found.document())
        return
    _show(found)


def _show(found: LoadResult) -> None:
    """Print both loads, and how they compare."""
    cold = "disk" if found.page_cache_dropped else "disk, perhaps from the page cache"
    rows = ((cold, _words(found.cold)), ("data system", _words(found.fetched)))
    show_words(out, ("weights from", f"{found.instance} on {found.host}"), rows)
    out.print(f"[bold]{found.ratio:.1f} times as fast[/]")


def _words(load: Loaded) -> str:
    """Return size, time and speed."""
    return f"{load.gb:.2f} GB in {load.seconds:.2f} s, {load.mb_per_second:.0f} MB/s"


def _say(line: str) -> None:
    """Print one line of progress."""
    err.print(f"→ {line}", markup=False, highlight=False, soft_wrap=True)
