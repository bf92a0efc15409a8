"""Measurements as bars: the data of the picture, and the picture as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from pdinfra.bench.compare import Comparison
from pdinfra.bench.result import Measurement, Row

COLOURS = ("#2f6fb3", "#9aa5b1")
"""Of the first (with) and the second (without); they differ in brightness too."""

BAR, GAP, SPACE = 22, 4, 18
LEFT, RIGHT, WIDTH = 110, 150, 720
"""Pixels."""


@dataclass(frozen=True)
class Bar:
    """One bar: its value, and what is written at its end; ``number`` chooses its colour."""

    label: str
    value: float
    note: str
    number: int = 0


@dataclass(frozen=True)
class Group:
    """The bars of one load, such as a prompt length."""

    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Panel:
    """Bars of one measure; all have one scale."""

    title: str
    groups: tuple[Group, ...]

    @property
    def most(self) -> float:
        """The longest bar's value; never 0."""
        return max((bar.value for group in self.groups for bar in group.bars), default=0) or 1.0


def panel(found: Measurement | Comparison) -> Panel:
    """Return the bars of a measurement, or of two side by side: mean TTFT by prompt length."""
    if isinstance(found, Measurement):
        drawn = [_group(row, [(row, "")]) for row in found.rows]
    else:
        drawn = [_group(mine, [(mine, "with"), (other, "without")]) for mine, other in found.pairs]
    return Panel("Time to first token, mean, by prompt length", tuple(drawn))


def legend(found: Measurement | Comparison) -> list[str]:
    """Return a name for each colour."""
    if isinstance(found, Measurement):
        return [name(found)]
    return [f"with: {name(found.first)}", f"without: {name(found.second)}"]


def name(measurement: Measurement) -> str:
    """Return what a measured service is called: ``inventories/lab (yuanrong, XConnector)``."""
    return f"{measurement.inventory} ({measurement.stack}, {measurement.connector})"


def percent(share: float | None) -> str:
    """Return a share (0 to 1) as people write it."""
    return "–" if share is None else f"{100 * share:.0f} %"


def svg(panels: Sequence[Panel], names: Sequence[str]) -> str:
    """Return the picture as a document of its own; colours are named by ``names``."""
    parts: list[str] = []
    y = 18.0
    for text, colour in zip(names, COLOURS, strict=False):
        parts.append(_rect(LEFT, y - 10, 12, 12, colour, text))
        parts.append(_text(LEFT + 18, y, text))
        y += SPACE
    for each in panels:
        drawn, y = _panel(each, y + SPACE / 2)
        parts += drawn
    size = f'width="{WIDTH}" height="{y:.0f}" viewBox="0 0 {WIDTH} {y:.0f}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" '
        'font-family="system-ui, sans-serif" font-size="12">'
    )
    return "\n".join(
        [
            head,
            f"<title>{escape('; '.join(each.title for each in panels))}</title>",
            f'<rect width="{WIDTH}" height="{y:.0f}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, y: float) -> tuple[list[str], float]:
    """Return what is drawn of one panel from a height on, and the height where it ends."""
    scale = (WIDTH - LEFT - RIGHT) / panel.most
    parts = [_text(10, y, panel.title, weight="bold")]
    y += SPACE / 2
    for group in panel.groups:
        height = len(group.bars) * (BAR + GAP) - GAP
        parts.append(_text(LEFT - 10, y + height / 2 + 4, group.label, anchor="end"))
        for bar in group.bars:
            width = max(bar.value * scale, 1)
            parts.append(_rect(LEFT, y, width, BAR, COLOURS[bar.number], bar.label or bar.note))
            parts.append(_text(LEFT + width + 6, y + BAR / 2 + 4, bar.note))
            y += BAR + GAP
        y += SPACE - GAP
    return parts, y


def _group(row: Row, rows: Sequence[tuple[Row, str]]) -> Group:
    """Return one length's bars."""
    bars = tuple(
        Bar(
            label,
            each.ttft_mean_ms,
            f"{each.ttft_mean_ms:.0f} ms, hits {percent(each.hit_rate)}",
            n,
        )
        for n, (each, label) in enumerate(rows)
    )
    return Group(f"{row.prompt_tokens:.0f} tokens", bars)


def _rect(x: float, y: float, width: float, height: float, fill: str, title: str) -> str:
    """Return a rectangle; browsers show its title as a tooltip."""
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {size} fill="{fill}"><title>{escape(title)}</title></rect>'


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    """Return a line of text."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor={quoteattr(anchor)}'
    return f'<text {place} font-weight="{weight}" fill="#1f2933">{escape(text)}</text>'
