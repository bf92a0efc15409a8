"""`bench pd`: a PD service against mixed instances on the same cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from pdinfra.bench import result
from pdinfra.bench.engines import load_host
from pdinfra.bench.pd_compare import PdComparison, compare, legend, panels
from pdinfra.bench.pd_measure import PdBench, measure
from pdinfra.bench.pd_result import ServiceResult
from pdinfra.bench.pd_wish import (
    PdWish,
    concurrencies,
    default_prompts,
    default_shapes,
    shapes,
)
from pdinfra.bench.picture import svg
from pdinfra.cli.options import (
    DEFAULT_INVENTORY,
    InventoryOption,
    JsonOption,
    emit,
    err,
    finish,
    out,
    reported,
)
from pdinfra.cli.pd_tables import show_pd
from pdinfra.cli.swap import Side, confirm, in_place_of, plan_of, play, say
from pdinfra.cli.ttft import SeedOption, refuse, unwritable, write
from pdinfra.driver.hosts import connections, on_host
from pdinfra.driver.look import INVALID, DriverError
from pdinfra.model.inventory import Accelerator
from pdinfra.model.plan import Plan

SUFFIX = "-mixed"


@dataclass(frozen=True)
class _Asked:
    """The options of a load as they were given; None is the default, which the cards decide."""

    shapes: str | None
    concurrency: str
    prompts: int | None
    seed: int
    max_minutes: float

    def wish(self, accelerator: Accelerator, also: Sequence[str] = ()) -> PdWish:
        """Return the parameters. Raises DriverError with all that is wrong, ``also`` included."""
        found = []
        wanted: tuple[tuple[int, int], ...] = ()
        at_a_time: tuple[int, ...] = ()
        try:
            wanted = shapes(self.shapes or default_shapes(accelerator))
        except ValueError as error:
            found.append(str(error))
        try:
            at_a_time = concurrencies(self.concurrency)
        except ValueError as error:
            found.append(str(error))
        prompts = self.prompts
        if prompts is None:
            prompts = max(default_prompts(accelerator), *at_a_time, 1)
        wish = PdWish(wanted, at_a_time, prompts, self.seed, self.max_minutes)
        refuse([*found, *also, *wish.problems()])
        return wish


def pd(
    inventory: InventoryOption = DEFAULT_INVENTORY,
    shapes_text: Annotated[
        str | None,
        typer.Option(
            "--shapes",
            metavar="INxOUT,...",
            help="Tokens of prompts and answers. Default: 1024x16,256x64,64x128; on CPU "
            "128x4,64x16,16x32.",
        ),
    ] = None,
    concurrency: Annotated[str, typer.Option(metavar="N,...", help="Requests at a time.")] = "1,8",
    prompts: Annotated[
        int | None,
        typer.Option(metavar="N", help="Requests of each load. Default: 64; on CPU 24."),
    ] = None,
    seed: SeedOption = 42,
    max_minutes: Annotated[
        float, typer.Option(metavar="N", help="Each load stops by itself after so long.")
    ] = 10,
    image: Annotated[
        str | None, typer.Option(help="Image to make the load with; default: the engines'.")
    ] = None,
    compare_files: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare", metavar="PD MIXED", help="Measure nothing: compare two saved results."
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep PD's result here, the other's in FILE-mixed."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the picture here.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before `down` and `up`.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Does PD pay? Measure the service, then mixed instances on the same cards, and compare."""
    with reported(json):
        files = [*unwritable(save, "--save"), *unwritable(picture, "--svg")]
        ask = _Asked(shapes_text, concurrency, prompts, seed, max_minutes)
        # What is wrong here is wrong on any cards: say it before the inventory is read.
        ask.wish("nvidia", files)
        if compare_files:
            found = _compared(compare_files, save)
        else:
            found = _measured(inventory, ask, image, save, yes)
        if picture:
            write(picture, svg(panels(found), legend(found)))
    if json:
        emit(found.document())
    else:
        show_pd(out, found)
    finish(found.ok)


def _measured(
    inventory: Path, ask: _Asked, image: str | None, save: Path | None, yes: bool
) -> PdComparison:
    """Measure the service, put its twin in its place, measure that, and bring the first back."""
    mine, twin = Side(inventory), Side(inventory, twin=True)
    first = plan_of(mine)
    wish = ask.wish(first.accelerator)
    second = plan_of(twin)
    if not first.convergeable:
        cause = f"stack {first.stack}: `up` cannot bring it up yet"
        refuse([f"{inventory}: {cause}. Fix: use another inventory"])
    steps = (
        f"bring up {inventory} and measure it, put {len(second.instances)} mixed instances in its "
        "place, measure them, and bring the first back"
    )
    confirm("bench pd", steps, yes, [_about(wish)])
    if yes:
        say(_about(wish))
    play("site.yml", mine, mine)
    bench = _Bench(inventory, wish, load_host(first)[0].name, image)
    pd_result = bench.measure("pd", first, save)
    beside = save and save.with_name(f"{save.stem}{SUFFIX}{save.suffix}")
    mixed = in_place_of(mine, twin, lambda: bench.measure("mixed", second, beside))
    return compare(pd_result, mixed)


def _about(wish: PdWish) -> str:
    """Return how much it is and how long it may take."""
    return (
        f"{len(wish.cells)} loads of {wish.prompts} requests on each of both, at most "
        f"{wish.most_minutes} minutes in all (--max-minutes), and three times `up`"
    )


@dataclass(frozen=True)
class _Bench:
    """What is the same for both services."""

    inventory: Path
    wish: PdWish
    load_from: str
    image: str | None

    def measure(self, form: Literal["pd", "mixed"], plan: Plan, save: Path | None) -> ServiceResult:
        """Measure a service that is up, and keep the result."""
        reach = connections(self.inventory)
        with err.status("Starting") as status:
            found = measure(
                PdBench(
                    form=form,
                    inventory=str(self.inventory),
                    plan=plan,
                    wish=self.wish,
                    load_from=self.load_from,
                    image=self.image,
                    there=lambda host, command: on_host(host, reach[host], command),
                    say=say,
                    show=status.update,
                )
            )
        if save:
            result.save(found, save)
        return found


def _compared(files: tuple[Path, Path], save: Path | None) -> PdComparison:
    """Compare two saved results."""
    if save:
        line = "--compare: it measures nothing. Fix: leave --save out"
        raise DriverError([line], INVALID)
    return compare(*(result.load(file, ServiceResult, "pd") for file in files))
