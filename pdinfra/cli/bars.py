"""Measurements as bars in the terminal, and what one must know to read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from pdinfra.bench.picture import Panel

BAR_COLUMNS = 50
BAR_STYLES = (("█", "cyan"), ("▒", "dim"))
"""Two signs: a log has no colours."""


def show_bars(console: Console, panels: Sequence[Panel], names: Sequence[str]) -> None:
    """Print each measure's bars, below what the signs stand for."""
    for name, (sign, style) in zip(names, BAR_STYLES, strict=False):
        console.print(Text.assemble((sign, style), f" {name}"), soft_wrap=True)
    for panel in panels:
        console.print(Text(panel.title, style="bold"))
        for group in panel.groups:
            for number, bar in enumerate(group.bars):
                label = group.label if number == 0 else ""
                length = max(round(BAR_COLUMNS * bar.value / panel.most), 1)
                text = Text(f"{label:>13} ")
                sign, style = BAR_STYLES[bar.number]
                text.append(sign * length, style=style)
                console.print(text.append(f" {bar.note}"), soft_wrap=True)


def show_notes(console: Console, lines: Iterable[str]) -> None:
    """Print what one must know to read a measurement."""
    for line in lines:
        console.print(Text(f"! {line}", style="yellow"), soft_wrap=True)
