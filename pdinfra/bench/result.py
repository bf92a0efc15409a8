"""What was measured, as data: one row for each prompt length. It can be kept in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pdinfra.bench.dataset import Shape
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.verify.counters import COMPUTED, EXTERNAL, LOCAL

KIND: Literal["pdinfra bench ttft 1"] = "pdinfra bench ttft 1"
WARM = 0.1
"""So much more than an empty cache can know is no longer the chat template or a rounding."""


class Frozen(BaseModel):
    """Base of everything here: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Saved = TypeVar("Saved", bound=Frozen)


class Tokens(Frozen):
    """Prompt tokens of some engines by source, from their own counters."""

    computed: int
    local: int
    external: int

    @property
    def hit_rate(self) -> float | None:
        """The share (0 to 1) that was not computed; None if there were no tokens."""
        total = self.computed + self.local + self.external
        return (self.local + self.external) / total if total else None


class Row(Frozen):
    """One prompt length. Times are milliseconds, ``seconds`` is the load's whole duration.

    ``length`` is what was asked for, ``prompt_tokens`` what the prompts had on average.
    ``prefill_tokens`` are of the engines that read prompts (prefill or mixed), ``decode_tokens`` of
    the others; None where the engines do not count by source.
    """

    length: int
    groups: int
    prompts_per_group: int
    prefix_words: int
    suffix_words: int
    seed: int
    requests: int
    failed: int
    prompt_tokens: float
    ttft_mean_ms: float
    ttft_median_ms: float
    ttft_p99_ms: float
    requests_per_second: float
    tokens_per_second: float
    seconds: float
    prefill_tokens: Tokens | None
    decode_tokens: Tokens | None

    @property
    def shape(self) -> Shape:
        """The dataset."""
        return Shape(
            self.groups, self.prompts_per_group, self.prefix_words, self.suffix_words, self.seed
        )

    @property
    def hit_rate(self) -> float | None:
        """The share (0 to 1) of the prompts' tokens that prefill found in a cache."""
        return self.prefill_tokens.hit_rate if self.prefill_tokens else None

    @property
    def warm(self) -> bool:
        """Tell whether more was in the cache than a cache that starts empty could know."""
        return self.hit_rate is not None and self.hit_rate > self.shape.repeated + WARM


class Measurement(Frozen):
    """One service under the load of each length; ``load_from`` is the host that made the load.

    ``prefix_caching`` is the engines' own, inside vLLM, by their /metrics: "on", "off", "mixed"
    or "unknown". ``template`` tells whether the load put the model's chat template around prompts.
    """

    kind: Literal["pdinfra bench ttft 1"] = KIND
    inventory: str
    service: str
    stack: str
    connector: str
    model: str
    addresses: tuple[str, ...]
    load_from: str
    image: str
    measured_at: str
    concurrency: int
    output_tokens: int
    prefix_caching: Literal["on", "off", "mixed", "unknown"]
    template: bool
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Tell whether every request was answered."""
        return not any(row.failed for row in self.rows)


@contextmanager
def answered(label: str, shape: Shape, found: Mapping[str, Any]) -> Iterator[int]:
    """Yield how many requests a result file of ``vllm bench serve`` says were answered.

    Raises DriverError if none was, or if what is read of the file inside is not there.
    """
    try:
        completed = int(found["completed"])
        if not completed:
            line = f"{label}: none of {shape.size} requests was answered"
            raise DriverError([f"{line}. Fix: try `verify`, then `logs router`"], FAILED)
        yield completed
    except (KeyError, TypeError, ValueError) as error:
        line = f"vllm bench serve: its result is not as vLLM 0.32 writes it: {error!r}"
        raise DriverError([f"{line}. Fix: use an image with vLLM 0.32"], FAILED) from error


def row(
    length: int,
    shape: Shape,
    found: Mapping[str, Any],
    prefill: Tokens | None,
    decode: Tokens | None,
) -> Row:
    """Return a row from the result file of ``vllm bench serve`` (0.32, measured).

    Raises DriverError if no request was answered, or if the file is of another shape.
    """
    with answered(f"{length} tokens", shape, found) as completed:
        return Row(
            length=length,
            groups=shape.groups,
            prompts_per_group=shape.prompts_per_group,
            prefix_words=shape.prefix_words,
            suffix_words=shape.suffix_words,
            seed=shape.seed,
            requests=shape.size,
            failed=shape.size - completed,
            prompt_tokens=round(found["total_input_tokens"] / completed, 1),
            ttft_mean_ms=round(found["mean_ttft_ms"], 2),
            ttft_median_ms=round(found["median_ttft_ms"], 2),
            ttft_p99_ms=round(found["p99_ttft_ms"], 2),
            requests_per_second=round(found["request_throughput"], 3),
            tokens_per_second=round(found["total_token_throughput"], 1),
            seconds=round(found["duration"], 2),
            prefill_tokens=prefill,
            decode_tokens=decode,
        )


def moved(
    before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]
) -> Tokens | None:
    """Return the tokens by source between two looks at some engines' counters, by engine.

    None where an engine does not count by source.
    """
    if not after or not all(after.values()):
        return None

    def between(source: str) -> int:
        counts = (
            now.get(source, 0) - before.get(name, {}).get(source, 0) for name, now in after.items()
        )
        return sum(max(count, 0) for count in counts)

    return Tokens(computed=between(COMPUTED), local=between(LOCAL), external=between(EXTERNAL))


def caching(states: Iterable[bool | None]) -> Literal["on", "off", "mixed", "unknown"]:
    """Return one word for what each engine says of its own prefix cache."""
    found = set(states)
    if found == {True}:
        return "on"
    if found == {False}:
        return "off"
    return "unknown" if None in found or not found else "mixed"


def save(measurement: Frozen, path: Path) -> None:
    """Write a measurement. Raises DriverError where that is impossible."""
    try:
        path.write_text(measurement.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        line = f"{path}: {error.strerror}. Fix: name a file that can be made"
        raise DriverError([line], FAILED) from error


def load(path: Path, kind: type[Saved], verb: str) -> Saved:
    """Read what ``bench VERB --save`` wrote. Raises DriverError for anything else."""
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        cause = str(error.strerror)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        cause = f"no saved measurement: {where}: {first['msg']}"
    except ValueError:
        cause = "no JSON"
    line = f"{path}: {cause}. Fix: name a file that `bench {verb} --save` wrote"
    raise DriverError([line], INVALID)
