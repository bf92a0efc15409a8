"""`bench ttft`: time to first token of a running service, with and without a cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pdinfra.bench import result
from pdinfra.bench.compare import Comparison, compare, notes
from pdinfra.bench.picture import legend, panel, svg
from pdinfra.bench.result import Measurement
from pdinfra.bench.ttft import Bench, measure
from pdinfra.bench.wish import Wish, lengths
from pdinfra.cli.options import (
    DEFAULT_INVENTORY,
    InventoryOption,
    JsonOption,
    emit,
    err,
    finish,
    out,
    reported,
    require,
)
from pdinfra.cli.swap import Side, confirm, in_place_of, plan_of, say
from pdinfra.cli.tables import show_comparison, show_measurement
from pdinfra.driver.hosts import connections, on_host
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.model.plan import Plan

SUFFIX = "-against"

GroupsOption = Annotated[int, typer.Option("--groups", metavar="N", help="Groups of prompts.")]
PromptsOption = Annotated[
    int, typer.Option("--prompts", metavar="N", help="Prompts in each group.")
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Same seed, same prompts.")]


def ttft(
    inventory: InventoryOption = DEFAULT_INVENTORY,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Measure this inventory's service too, put in place of the first for a while.",
        ),
    ] = None,
    compare_files: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare", metavar="WITH WITHOUT", help="Measure nothing: compare two saved results."
        ),
    ] = None,
    lengths_text: Annotated[
        str, typer.Option("--lengths", metavar="TOKENS", help="Prompt lengths in tokens, about.")
    ] = "1000,2000,4000",
    groups_: GroupsOption = 5,
    prompts: PromptsOption = 10,
    shared: Annotated[
        int,
        typer.Option(metavar="N", help="Percent of a prompt that is the same in its whole group."),
    ] = 25,
    seed: SeedOption = 42,
    concurrency: Annotated[int, typer.Option(metavar="N", help="Requests at a time.")] = 8,
    output_tokens: Annotated[
        int, typer.Option(metavar="N", help="Tokens of each answer, at most.")
    ] = 2,
    max_minutes: Annotated[
        float,
        typer.Option(metavar="N", help="The load of one length stops by itself after so long."),
    ] = 30,
    image: Annotated[
        str | None, typer.Option(help="Image to make the load with; default: the engines'.")
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the result here.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the picture here.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --against: do not ask before `down`, `up`.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure time to first token of the running service by prompt length, as the guides do."""
    with reported(json):
        wish = _wish(
            lengths_text, groups_, prompts, shared, seed, concurrency, output_tokens, max_minutes,
            [*unwritable(save, "--save"), *unwritable(picture, "--svg")],
        )  # fmt: skip
        if compare_files:
            found: Measurement | Comparison = _compared(compare_files, against, save)
        elif against:
            found = _both(inventory, against, wish, image, save, yes)
        else:
            found = _one(inventory, plan_of(Side(inventory)), wish, image, save)
        if picture:
            write(picture, svg([panel(found)], legend(found)))
    _show(found, json)


def _wish(
    text: str,
    groups_: int,
    prompts: int,
    shared: int,
    seed: int,
    concurrency: int,
    output_tokens: int,
    max_minutes: float,
    also: Sequence[str],
) -> Wish:
    """Return the parameters. Raises DriverError with all that is wrong, ``also`` included."""
    found = list(also)
    wanted: tuple[int, ...] = ()
    try:
        wanted = lengths(text)
    except ValueError as error:
        found.insert(0, str(error))
    wish = Wish(wanted, groups_, prompts, shared, seed, concurrency, output_tokens, max_minutes)
    refuse([*found, *wish.problems()])
    return wish


def refuse(problems: list[str]) -> None:
    """Raise DriverError if there is a problem: nothing was touched."""
    if problems:
        raise DriverError(problems, INVALID)


def unwritable(path: Path | None, option: str) -> list[str]:
    """Return why a file cannot be written: better now than after the load."""
    if path is None or (os.access(path.parent, os.W_OK) and not path.is_dir()):
        return []
    fix = "name a file in a folder that exists and that you may write to"
    return [f"{option} {path}: cannot be written. Fix: {fix}"]


def write(path: Path, text: str) -> None:
    """Write a file. Raises DriverError where that is impossible."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DriverError([f"{path}: {error.strerror}. Fix: name another file"], FAILED) from error


def _one(
    inventory: Path, plan: Plan, wish: Wish, image: str | None, save: Path | None
) -> Measurement:
    """Measure one running service, and keep the result."""
    reach = connections(inventory)
    with err.status("Starting") as status:
        found = measure(
            Bench(
                inventory=str(inventory),
                plan=plan,
                wish=wish,
                image=image,
                there=lambda host, command: on_host(host, reach[host], command),
                say=say,
                show=status.update,
            )
        )
    if save:
        result.save(found, save)
    return found


def _compared(files: tuple[Path, Path], against: Path | None, save: Path | None) -> Comparison:
    """Compare two saved results."""
    if against or save:
        line = "--compare: it measures nothing. Fix: leave --against and --save out"
        raise DriverError([line], INVALID)
    return compare(*(result.load(file, Measurement, "ttft") for file in files))


def _both(
    inventory: Path, against: Path, wish: Wish, image: str | None, save: Path | None, yes: bool
) -> Comparison:
    """Measure a service, put the other in its place, measure that, and bring the first back."""
    require(against)
    mine, other = Side(inventory), Side(against)
    first, second = plan_of(mine), plan_of(other)
    refuse(_not_swappable(first, second, against))
    steps = f"measure {inventory}, take it down, bring up {against}, measure it, and swap back"
    confirm("--against", steps, yes)
    with_it = _one(inventory, first, wish, image, save)
    beside = save and save.with_name(f"{save.stem}{SUFFIX}{save.suffix}")
    without = in_place_of(mine, other, lambda: _one(against, second, wish, image, beside))
    return compare(with_it, without)


def _not_swappable(first: Plan, second: Plan, against: Path) -> list[str]:
    """Return why one service cannot take the other's place."""
    found = []
    hosts = [{host.address for host in plan.active} for plan in (first, second)]
    if hosts[0] != hosts[1]:
        here, there = (", ".join(sorted(each)) for each in hosts)
        fix = "use inventories of the same hosts, or measure each with --save and --compare"
        found.append(f"--against {against}: it has hosts {there}, not {here}. Fix: {fix}")
    if first.model_name != second.model_name:
        cause = f"it serves {second.model_name}, not {first.model_name}"
        found.append(f"--against {against}: {cause}. Fix: compare services of one model")
    if not second.convergeable:
        cause = f"stack {second.stack}: `up` cannot bring it up yet"
        found.append(f"--against {against}: {cause}. Fix: use another inventory")
    return found


def _show(found: Measurement | Comparison, json: bool) -> None:
    """Print a result and leave: 1 if requests failed."""
    if isinstance(found, Comparison):
        if json:
            emit(found.document())
        else:
            show_comparison(out, found)
    elif json:
        emit({"ok": found.ok, **found.model_dump(mode="json"), "notes": notes(found)})
    else:
        show_measurement(out, found)
    finish(found.ok)
