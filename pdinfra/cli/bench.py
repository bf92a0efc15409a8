"""`bench`: measure a service, as the guides do and against mixed instances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pdinfra.bench import dataset as data
from pdinfra.cli import bench_load, bench_pd, ttft
from pdinfra.cli.options import err, reported
from pdinfra.cli.ttft import GroupsOption, PromptsOption, SeedOption, refuse, unwritable, write

app = typer.Typer(help="Measure a running service as the guides do.", no_args_is_help=True)
app.command()(ttft.ttft)
app.command()(bench_pd.pd)
app.command()(bench_load.load)


@app.command()
def dataset(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write, JSON lines.")
    ],
    groups_: GroupsOption = 30,
    prompts: PromptsOption = 100,
    prefix: Annotated[
        int, typer.Option(metavar="N", help="Random words that a group shares.")
    ] = 2048,
    suffix: Annotated[
        int, typer.Option(metavar="N", help="Random words of each prompt's own.")
    ] = 6144,
    seed: SeedOption = 42,
) -> None:
    """Write the dataset of guide yuanrong-pd-disaggregation; the defaults are the guide's own."""
    with reported(as_json=False):
        least = {"--groups": groups_, "--prompts": prompts, "--prefix": prefix, "--suffix": suffix}
        wrong = [f"{n} {v}: too small. Fix: use 1 or more" for n, v in least.items() if v < 1]
        refuse([*wrong, *unwritable(output, "--output")])
        shape = data.Shape(groups_, prompts, prefix, suffix, seed)
        write(output, data.jsonl(data.generate(shape)))
    err.print(f"→ {output}: {shape.size} prompts", markup=False, highlight=False, soft_wrap=True)
