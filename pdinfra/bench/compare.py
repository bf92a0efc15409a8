"""Two measurements of the same load, side by side: with a cache and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pdinfra.bench.result import Frozen, Measurement, Row
from pdinfra.driver.look import INVALID, DriverError

FEW = 100
"""Below so many requests the 99th percentile is the slowest one or close to it."""

SAME = ("model", "concurrency", "output_tokens", "template")
"""What must be equal for two measurements to be comparable."""


class Difference(Frozen):
    """What the first changed against the second, in percent of the second; -30 is 30 % less."""

    length: int
    ttft_mean_percent: float
    ttft_median_percent: float
    ttft_p99_percent: float
    requests_per_second_percent: float


@dataclass(frozen=True)
class Comparison:
    """Two measurements and their differences; only lengths that both have."""

    first: Measurement
    second: Measurement
    pairs: tuple[tuple[Row, Row], ...]

    @property
    def differences(self) -> tuple[Difference, ...]:
        """One for each length."""
        return tuple(difference(*pair) for pair in self.pairs)

    @property
    def ok(self) -> bool:
        """Tell whether every request was answered."""
        return self.first.ok and self.second.ok

    def document(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return {
            "ok": self.ok,
            "with": self.first.model_dump(mode="json"),
            "without": self.second.model_dump(mode="json"),
            "differences": [each.model_dump(mode="json") for each in self.differences],
            "notes": comparison_notes(self),
        }


def compare(first: Measurement, second: Measurement) -> Comparison:
    """Put two measurements side by side. Raises DriverError if they are not comparable."""
    found = [
        f"{name}: {getattr(first, name)} here, {getattr(second, name)} there. "
        "Fix: measure both with the same options"
        for name in SAME
        if getattr(first, name) != getattr(second, name)
    ]
    pairs = tuple(
        (mine, other)
        for mine in first.rows
        for other in second.rows
        if (mine.length, mine.shape) == (other.length, other.shape)
    )
    if not pairs:
        fix = "measure both with the same --lengths, --groups, --prompts, --shared and --seed"
        found.append(f"no prompt length was measured in both with the same dataset. Fix: {fix}")
    if found:
        raise DriverError(found, INVALID)
    return Comparison(first, second, pairs)


def difference(mine: Row, other: Row) -> Difference:
    """Return what changed at one length."""

    def percent(name: str) -> float:
        new, old = getattr(mine, name), getattr(other, name)
        return round(100 * (new - old) / old, 1) if old else 0.0

    return Difference(
        length=mine.length,
        ttft_mean_percent=percent("ttft_mean_ms"),
        ttft_median_percent=percent("ttft_median_ms"),
        ttft_p99_percent=percent("ttft_p99_ms"),
        requests_per_second_percent=percent("requests_per_second"),
    )


def notes(measurement: Measurement) -> list[str]:
    """Return what one must know to read a measurement, one line each."""
    found = []
    for row in measurement.rows:
        if row.failed:
            found.append(
                f"{row.length} tokens: {row.failed} of {row.requests} requests failed; "
                "the times are those of the others."
            )
        if row.warm:
            found.append(
                f"{row.length} tokens: more hits than an empty cache could have: it held these "
                "prompts already. Use another --seed, or start the service anew."
            )
    if any(row.hit_rate is None for row in measurement.rows):
        found.append("The engines do not count prompt tokens by source: the hit rate is unknown.")
    own = measurement.prefix_caching
    if own == "on":
        found.append(
            "vLLM's own prefix cache, inside each engine, is on: its hits are the column local."
        )
    elif own != "off":
        found.append(f"vLLM's own prefix cache, inside each engine: {own}.")
    if any(row.requests < FEW for row in measurement.rows):
        found.append(f"With fewer than {FEW} requests, P99 is the slowest one or close to it.")
    return found


def comparison_notes(comparison: Comparison) -> list[str]:
    """Return what one must know to read a comparison, one line each."""
    first, second = comparison.first, comparison.second
    both = {"with": notes(first), "without": notes(second)}
    found = [line for line in both["with"] if line in both["without"]]
    for name, lines in both.items():
        found += [f"{name}: {line}" for line in lines if line not in found]
    if first.addresses != second.addresses:
        here, there = ", ".join(first.addresses), ", ".join(second.addresses)
        found.append(f"Not the same hosts: {here} with, {there} without.")
    if first.image != second.image:
        found.append(f"Not the same image: {first.image} with, {second.image} without.")
    left = _left_out(first.rows, comparison.pairs) | _left_out(second.rows, comparison.pairs)
    if left:
        found.append(f"Only in one of both, left out: {', '.join(map(str, sorted(left)))} tokens.")
    return found


def _left_out(rows: Sequence[Row], pairs: Sequence[tuple[Row, Row]]) -> set[int]:
    """Return the lengths of rows that have no partner."""
    return {row.length for row in rows if all(row not in pair for pair in pairs)}
