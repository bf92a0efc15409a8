"""Hosts, instances, cards and ranks of a table: the data of the picture, and the picture as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from pydantic import BaseModel, ConfigDict

from pdinfra.ranktable.ascendcloud import MERGED
from pdinfra.ranktable.read import Role, Table

COLOURS: dict[Role, tuple[str, str]] = {
    "scheduler": ("#fff3d6", "#8a5a00"),
    "prefill": ("#dbe9f8", "#1f5a99"),
    "decode": ("#dff2e1", "#23702b"),
    "instance": ("#eceff3", "#46525f"),
}
"""Fill and line of each role; the role is written in the box too."""

CARD_WIDTH, CARD_HEIGHT, PAD, GAP, HEAD = 118, 54, 12, 12, 26
PER_ROW = 8
"""Pixels; cards side by side in one instance."""


class CardDrawn(BaseModel):
    """One card; ``?`` for what the table does not say in a text."""

    model_config = ConfigDict(frozen=True)

    device_id: str
    device_ip: str
    rank_id: str


class InstanceDrawn(BaseModel):
    """One instance, or the scheduler, which has no cards; ``number`` counts within its role."""

    model_config = ConfigDict(frozen=True)

    role: Role
    number: int
    cards: tuple[CardDrawn, ...]

    @property
    def title(self) -> str:
        """Return what is written above it."""
        return self.role if self.role == "scheduler" else f"{self.role} {self.number}"


class HostDrawn(BaseModel):
    """One host with what is on it, in the order of the table."""

    model_config = ConfigDict(frozen=True)

    host: str
    members: tuple[InstanceDrawn, ...]


def main_table(tables: Sequence[Table]) -> Table | None:
    """Return the table that says the most: merged, else global, else the first rank table."""
    known = [table for table in tables if table.kind is not None]
    merged = [table for table in known if table.name == MERGED]
    whole = [table for table in known if table.kind in ("ascendcloud-global", "vllm-ascend")]
    return next(iter([*merged, *whole, *known]), None)


def hosts(table: Table) -> list[HostDrawn]:
    """Return the picture's data: hosts in the order of their first instance."""
    found: dict[str, list[InstanceDrawn]] = {}
    counts: dict[Role, int] = {}
    for server in table.servers:
        number = counts.get(server.role, 0)
        counts[server.role] = number + 1
        cards = tuple(
            CardDrawn(
                device_id=card.device_id or "?",
                device_ip=card.device_ip or "?",
                rank_id=card.rank_id or card.cluster_id or "?",
            )
            for card in server.cards
        )
        drawn = InstanceDrawn(role=server.role, number=number, cards=cards)
        found.setdefault(server.address or "?", []).append(drawn)
    return [HostDrawn(host=host, members=tuple(inside)) for host, inside in found.items()]


def document(table: Table, drawn: Sequence[HostDrawn]) -> dict[str, Any]:
    """Return the JSON document."""
    return {"file": table.file, "servers": [host.model_dump(mode="json") for host in drawn]}


def svg(drawn: Sequence[HostDrawn], title: str) -> str:
    """Return the picture as a document of its own: hosts below each other."""
    parts: list[str] = []
    top: float = HEAD + GAP
    width = 0.0
    for host in drawn:
        inside, right, bottom = _host(host, top)
        parts += [_box(PAD, top, right - PAD, bottom - top, ("#ffffff", "#9aa5b1"), host.host)]
        parts += [_text(2 * PAD, top + 18, f"host {host.host}", bold=True), *inside]
        width, top = max(width, right), bottom + GAP
    width = max(width + PAD, 320)
    size = f'width="{width:.0f}" height="{top:.0f}" viewBox="0 0 {width:.0f} {top:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" '
    return "\n".join(
        [
            head + 'font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width:.0f}" height="{top:.0f}" fill="#ffffff"/>',
            _text(PAD, 20, title, bold=True),
            *parts,
            "</svg>\n",
        ]
    )


def _host(host: HostDrawn, top: float) -> tuple[list[str], float, float]:
    """Return the boxes in a host's box, and where that ends to the right and below."""
    parts: list[str] = []
    y, right = top + HEAD, 0.0
    for instance in host.members:
        columns = max(1, min(len(instance.cards), PER_ROW))
        rows = -(-len(instance.cards) // PER_ROW)
        width = columns * (CARD_WIDTH + GAP) + GAP
        height = HEAD + rows * (CARD_HEIGHT + GAP)
        colours = COLOURS[instance.role]
        parts.append(_box(2 * PAD, y, width, height, colours, instance.title))
        parts.append(_text(3 * PAD, y + 18, instance.title, colours[1], bold=True))
        for number, card in enumerate(instance.cards):
            left = 3 * PAD + number % PER_ROW * (CARD_WIDTH + GAP)
            place = y + HEAD + number // PER_ROW * (CARD_HEIGHT + GAP)
            label = f"device {card.device_id}, rank {card.rank_id}, {card.device_ip}"
            parts.append(_box(left, place, CARD_WIDTH, CARD_HEIGHT, ("#ffffff", colours[1]), label))
            lines = (f"device {card.device_id}", f"rank {card.rank_id}", card.device_ip)
            parts += [_text(left + 8, place + 15 + 15 * n, line) for n, line in enumerate(lines)]
        y += height + GAP
        right = max(right, 2 * PAD + width + PAD)
    return parts, right, y


def _box(
    x: float, y: float, width: float, height: float, colours: tuple[str, str], title: str
) -> str:
    """Return a rectangle; browsers show its title as a tooltip."""
    size = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="4"'
    paint = f"fill={quoteattr(colours[0])} stroke={quoteattr(colours[1])}"
    return f"<rect {size} {paint}><title>{escape(title)}</title></rect>"


def _text(x: float, y: float, text: str, colour: str = "#1f2933", *, bold: bool = False) -> str:
    """Return a line of text."""
    weight = "bold" if bold else "normal"
    place = f'x="{x:.0f}" y="{y:.0f}" font-weight="{weight}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"
