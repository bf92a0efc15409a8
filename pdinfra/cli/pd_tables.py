"""The comparison of PD and mixed as a person likes to read it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from pdinfra.bench.pd_compare import PdComparison, PdDifference, legend, notes, overall, panels
from pdinfra.bench.pd_result import LoadRow
from pdinfra.cli.bars import show_bars, show_notes
from pdinfra.cli.tables import new_table

STYLES = {"pays": "green", "does not pay": "red"}


def show_pd(console: Console, found: PdComparison) -> None:
    """Print both services by load with the differences, the picture, the verdicts, the notes."""
    table = new_table(
        "tokens in x out", "at a time", "service", "TTFT median ms", "P99", "TPOT median ms", "P99",
        "requests/s", "output tokens/s", "not answered",
    )  # fmt: skip
    for (pd, mixed), change in zip(found.pairs, found.differences, strict=True):
        table.add_row(*_cells(pd, "PD", first=True))
        table.add_row(*_cells(mixed, "mixed", first=False))
        table.add_row("", "", "difference", *_changes(change), style="bold", end_section=True)
    console.print(table)
    show_bars(console, panels(found), legend(found))
    for change in found.differences:
        style = STYLES.get(change.verdict, "")
        console.print(Text(change.sentence, style=style), soft_wrap=True)
    console.print(Text(overall(found.differences), style="bold"), soft_wrap=True)
    show_notes(console, notes(found))


def _cells(row: LoadRow, service: str, *, first: bool) -> list[str]:
    """Return one service's row; the load is named once."""
    load = (f"{row.prompt_tokens:.0f} x {row.answer_tokens:.0f}", str(row.concurrency))
    return [
        *(load if first else ("", "")),
        service,
        f"{row.ttft_median_ms:.1f}",
        f"{row.ttft_p99_ms:.1f}",
        f"{row.tpot_median_ms:.2f}",
        f"{row.tpot_p99_ms:.2f}",
        f"{row.requests_per_second:.2f}",
        f"{row.output_tokens_per_second:.1f}",
        f"{row.failed} of {row.requests}" if row.failed else "",
    ]


def _changes(change: PdDifference) -> list[str]:
    """Return the differences in the order of the columns."""
    values = (
        change.ttft_median_percent,
        change.ttft_p99_percent,
        change.tpot_median_percent,
        change.tpot_p99_percent,
        change.requests_per_second_percent,
        change.output_tokens_per_second_percent,
    )
    return [f"{value:+.1f} %" for value in values]
