"""What `bench pd` measured of one service, as data: one row for each load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pdinfra.bench.dataset import Shape
from pdinfra.bench.pd_wish import Cell
from pdinfra.bench.result import Frozen, answered
from pdinfra.model.inventory import Accelerator

KIND: Literal["pdinfra bench pd 1"] = "pdinfra bench pd 1"


class LoadRow(Frozen):
    """One load. Times are milliseconds, ``seconds`` is the load's whole duration.

    ``input_tokens`` and ``output_tokens`` are what was asked for, ``prompt_tokens`` and
    ``answer_tokens`` what there really were on average. TTFT is from a request to its first token,
    TPOT the time of each further token. ``cached`` is the share (0 to 1) of the prompts' tokens
    that the engines which read prompts had in a cache; None where they do not count.
    """

    input_tokens: int
    output_tokens: int
    concurrency: int
    words: int
    seed: int
    requests: int
    failed: int
    prompt_tokens: float
    answer_tokens: float
    ttft_median_ms: float
    ttft_p99_ms: float
    tpot_median_ms: float
    tpot_p99_ms: float
    requests_per_second: float
    output_tokens_per_second: float
    seconds: float
    cached: float | None

    @property
    def cell(self) -> Cell:
        """The load."""
        return Cell(self.input_tokens, self.output_tokens, self.concurrency)

    @property
    def same(self) -> tuple[Cell, int, int, int]:
        """What must be equal for two rows to be the same load with the same prompts."""
        return self.cell, self.words, self.seed, self.requests


class ServiceResult(Frozen):
    """One service under every load.

    ``form`` is pd or mixed; ``engines`` counts the instances by role, ``cards`` the devices of all
    of them. ``load_from`` is the host that made the load.
    """

    kind: Literal["pdinfra bench pd 1"] = KIND
    form: Literal["pd", "mixed"]
    inventory: str
    service: str
    stack: str
    connector: str
    accelerator: Accelerator
    model: str
    engines: dict[str, int]
    cards: int
    addresses: tuple[str, ...]
    load_from: str
    image: str
    measured_at: str
    loads: tuple[LoadRow, ...]

    @property
    def ok(self) -> bool:
        """Tell whether every request was answered."""
        return not any(row.failed for row in self.loads)

    @property
    def name(self) -> str:
        """What it is called in a legend: ``PD: 1 prefill, 1 decode (native, NixlConnector)``."""
        counts = ", ".join(f"{count} {role}" for role, count in self.engines.items())
        if self.form == "mixed":
            return f"mixed: {counts}, the same cards, no connector"
        return f"PD: {counts} ({self.stack}, {self.connector})"


def load_row(cell: Cell, shape: Shape, found: Mapping[str, Any], cached: float | None) -> LoadRow:
    """Return a row from the result file of ``vllm bench serve`` (0.32, measured).

    Raises DriverError if no request was answered, or if the file is of another shape.
    """
    with answered(cell.label, shape, found) as completed:
        return LoadRow(
            input_tokens=cell.input_tokens,
            output_tokens=cell.output_tokens,
            concurrency=cell.concurrency,
            words=shape.prefix_words + shape.suffix_words,
            seed=shape.seed,
            requests=shape.size,
            failed=shape.size - completed,
            prompt_tokens=round(found["total_input_tokens"] / completed, 1),
            answer_tokens=round(found["total_output_tokens"] / completed, 1),
            ttft_median_ms=round(found["median_ttft_ms"], 2),
            ttft_p99_ms=round(found["p99_ttft_ms"], 2),
            tpot_median_ms=round(found["median_tpot_ms"], 2),
            tpot_p99_ms=round(found["p99_tpot_ms"], 2),
            requests_per_second=round(found["request_throughput"], 3),
            output_tokens_per_second=round(found["output_throughput"], 1),
            seconds=round(found["duration"], 2),
            cached=cached,
        )
