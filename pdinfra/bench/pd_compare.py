"""A PD service and mixed instances on the same cards, side by side: does PD pay?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pdinfra.bench.compare import FEW
from pdinfra.bench.pd_result import LoadRow, ServiceResult
from pdinfra.bench.picture import Bar, Group, Panel
from pdinfra.bench.result import Frozen
from pdinfra.driver.look import INVALID, DriverError

NOISE, NOISE_OF_FEW = 5.0, 10.0
"""Percent. Smaller differences count as none; the second holds below FEW requests. By experience:
two runs of one load on one machine differ by so much."""

CACHED = 0.1
"""So much of prompts that have nothing in common is no rounding: they were asked before."""

SHORT = 0.9
"""Answers with less than this share of the tokens asked for are another load."""

UNSTEADY = 10.0
"""Times the median: a 99th percentile beyond it is a stall, not a queue of requests at a time."""

SIMULATED = "pdinfra-sim/"
"""In the name of every image that only imitates engines."""

Verdict = Literal["pays", "depends", "does not pay", "no difference", "not judged"]
Pair = tuple[LoadRow, LoadRow]


class PdDifference(Frozen):
    """What PD changes against mixed at one load, in percent of mixed; -30 is 30 % less."""

    input_tokens: int
    output_tokens: int
    concurrency: int
    ttft_median_percent: float
    ttft_p99_percent: float
    tpot_median_percent: float
    tpot_p99_percent: float
    requests_per_second_percent: float
    output_tokens_per_second_percent: float
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class PdComparison:
    """Both services and their differences; only loads that both have."""

    pd: ServiceResult
    mixed: ServiceResult
    pairs: tuple[Pair, ...]

    @property
    def differences(self) -> tuple[PdDifference, ...]:
        """One for each load."""
        return tuple(difference(*pair) for pair in self.pairs)

    @property
    def ok(self) -> bool:
        """Tell whether every request was answered."""
        return self.pd.ok and self.mixed.ok

    def document(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return {
            "ok": self.ok,
            "verdict": overall(self.differences),
            "pd": self.pd.model_dump(mode="json"),
            "mixed": self.mixed.model_dump(mode="json"),
            "verdicts": [each.model_dump(mode="json") for each in self.differences],
            "notes": notes(self),
        }


def compare(pd: ServiceResult, mixed: ServiceResult) -> PdComparison:
    """Put two results side by side. Raises DriverError if they are not comparable."""
    found = []
    if (pd.form, mixed.form) != ("pd", "mixed"):
        line = f"a result of {pd.form} and one of {mixed.form}, not of pd and of mixed"
        found.append(f"{line}. Fix: name both files that one `bench pd --save` wrote, PD's first")
    for name in ("model", "cards"):
        mine, other = getattr(pd, name), getattr(mixed, name)
        if mine != other:
            found.append(f"{name}: {mine} here, {other} there. Fix: measure both on the same")
    pairs = tuple((a, b) for a in pd.loads for b in mixed.loads if a.same == b.same)
    if not pairs:
        fix = "measure both with the same --shapes, --concurrency, --prompts and --seed"
        found.append(f"no load was put on both with the same prompts. Fix: {fix}")
    if found:
        raise DriverError(found, INVALID)
    return PdComparison(pd, mixed, pairs)


def difference(pd: LoadRow, mixed: LoadRow) -> PdDifference:
    """Return what PD changes at one load, and whether it pays."""

    def percent(name: str) -> float:
        new, old = getattr(pd, name), getattr(mixed, name)
        return round(100 * (new - old) / old, 1) if old else 0.0

    changed = {
        "TTFT": percent("ttft_median_ms"),
        "TPOT": percent("tpot_median_ms"),
        "throughput": percent("output_tokens_per_second"),
    }
    verdict, reason = _judged(changed, _noise(pd), failed=bool(pd.failed or mixed.failed))
    told = ", ".join(f"{name} {_words(value)}" for name, value in changed.items())
    if any(_stalls(row) for row in (pd, mixed)):
        reason += "; but something stalled, so repeat it"
    return PdDifference(
        input_tokens=pd.input_tokens,
        output_tokens=pd.output_tokens,
        concurrency=pd.concurrency,
        ttft_median_percent=changed["TTFT"],
        ttft_p99_percent=percent("ttft_p99_ms"),
        tpot_median_percent=changed["TPOT"],
        tpot_p99_percent=percent("tpot_p99_ms"),
        requests_per_second_percent=percent("requests_per_second"),
        output_tokens_per_second_percent=changed["throughput"],
        verdict=verdict,
        sentence=f"{pd.cell.label}: PD: {told}: {reason}",
    )


def overall(differences: Sequence[PdDifference]) -> str:
    """Return the verdict on all loads in a sentence or two."""
    by: dict[str, list[str]] = {}
    for each in differences:
        label = f"{each.input_tokens}x{each.output_tokens} c{each.concurrency}"
        by.setdefault(each.verdict, []).append(label)
    judged = [verdict for verdict in by if verdict != "not judged"]
    unjudged = f" Not judged: {', '.join(by['not judged'])}." if "not judged" in by else ""
    if not judged:
        return "No verdict: requests failed at every load."
    if judged == ["pays"]:
        return f"PD pays at every load judged.{unjudged}"
    if judged == ["does not pay"]:
        return (
            "PD does not pay at any load judged: mixed instances on the same cards do better."
            + unjudged
        )
    if judged == ["no difference"]:
        return f"PD makes no difference beyond the noise; mixed is simpler.{unjudged}"
    order = ("pays", "depends", "does not pay", "no difference")
    parts = [f"{verdict} at {', '.join(by[verdict])}" for verdict in order if verdict in by]
    return f"It depends on your load. PD: {'; '.join(parts)}.{unjudged}"


def notes(found: PdComparison) -> list[str]:
    """Return what one must know to read a comparison, one line each."""
    lines = []
    both = (("PD", found.pd), ("mixed", found.mixed))
    for name, result in both:
        for row in result.loads:
            lines += [f"{name}, {row.cell.label}: {line}" for line in _row_notes(row)]
    few = min(row.requests for pair in found.pairs for row in pair)
    if few < FEW:
        lines.append(
            f"{few} requests a load: P99 is the slowest one or close to it, and differences below "
            f"{NOISE_OF_FEW:.0f} % count as none. Repeat with another --seed, or more --prompts, "
            "before you decide."
        )
    if found.pd.accelerator == "cpu":
        lines.append("Engines on CPU: this says nothing about your cards.")
    if any(SIMULATED in result.image for _, result in both):
        lines.append("Engines are simulated: this says nothing about your cards.")
    if found.pd.addresses != found.mixed.addresses:
        lines.append("Not the same hosts.")
    if found.pd.image != found.mixed.image:
        lines.append(f"Not the same image: {found.pd.image} for PD, {found.mixed.image} for mixed.")
    if left := len({row.same for _, r in both for row in r.loads}) - len(found.pairs):
        lines.append(f"{left} loads were put on one of both only, and are left out.")
    return lines


def panels(found: PdComparison) -> list[Panel]:
    """Return the picture: three measures, PD and mixed side by side at each load."""
    return [
        _panel(found, "TTFT, median: less is better", "ttft_median_ms", "{:.0f} ms"),
        _panel(found, "TPOT, median: less is better", "tpot_median_ms", "{:.1f} ms"),
        _panel(
            found,
            "Output tokens per second: more is better",
            "output_tokens_per_second",
            "{:.0f}/s",
        ),
    ]


def legend(found: PdComparison) -> list[str]:
    """Return a name for each colour."""
    return [found.pd.name, found.mixed.name]


def _judged(changed: dict[str, float], noise: float, *, failed: bool) -> tuple[Verdict, str]:
    """Return whether PD pays, and the words for it."""
    if failed:
        return "not judged", "not judged, requests failed"
    gain = {name: -value if name != "throughput" else value for name, value in changed.items()}
    better = [name for name, value in gain.items() if value >= noise]
    worse = [name for name, value in gain.items() if value <= -noise]
    if not better and not worse:
        return "no difference", f"no difference beyond the noise ({noise:.0f} %)"
    if not worse:
        return "pays", "pays"
    if not better:
        return "does not pay", "does not pay"
    means = f"pays if {_list(better)} matter{'s' if len(better) == 1 else ''} more to you than "
    return "depends", means + _list(worse)


def _noise(row: LoadRow) -> float:
    """Return the percent below which a difference is none."""
    return NOISE_OF_FEW if row.requests < FEW else NOISE


def _words(percent: float) -> str:
    """Return a change as people say it."""
    if round(percent) == 0:
        return "equal"
    return f"{abs(percent):.0f} % {'lower' if percent < 0 else 'higher'}"


def _list(words: Sequence[str]) -> str:
    """Return ``a and b``."""
    return " and ".join(words)


def _stalls(row: LoadRow) -> list[str]:
    """Return the times whose slowest are of another kind than the usual."""
    pairs = {
        "TTFT": (row.ttft_median_ms, row.ttft_p99_ms),
        "TPOT": (row.tpot_median_ms, row.tpot_p99_ms),
    }
    return [name for name, (usual, slow) in pairs.items() if slow > UNSTEADY * usual]


def _row_notes(row: LoadRow) -> list[str]:
    """Return what is special about one row."""
    found = []
    if row.failed:
        cause = f"{row.failed} of {row.requests} requests were not answered"
        found.append(f"{cause}; the times are those of the others.")
    if row.cached is not None and row.cached > CACHED:
        share = f"{100 * row.cached:.0f} % of the prompts' tokens"
        found.append(f"{share} were in a cache already, which flatters. Use another --seed.")
    if stalls := _stalls(row):
        cause = f"{_list(stalls)} of the slowest requests are over {UNSTEADY:.0f} times the median"
        found.append(f"{cause}: something stalled, and throughput is that of the stalls too.")
    if row.answer_tokens < SHORT * row.output_tokens:
        found.append(f"answers had {row.answer_tokens:.0f} tokens only.")
    return found


def _panel(found: PdComparison, title: str, name: str, form: str) -> Panel:
    """Return the bars of one measure."""
    drawn = []
    for pair in found.pairs:
        values = [float(getattr(row, name)) for row in pair]
        bars = [
            Bar(label, value, form.format(value), number)
            for number, (label, value) in enumerate(zip(("PD", "mixed"), values, strict=True))
        ]
        drawn.append(Group(pair[0].cell.label, tuple(bars)))
    return Panel(title, tuple(drawn))
