"""What `bench pd` puts on both services, as the user says it, and what is wrong with that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from pdinfra.bench.dataset import Shape
from pdinfra.bench.wish import MARGIN
from pdinfra.model.inventory import Accelerator

SHAPES = "1024x16,256x64,64x128"
"""From prefill-heavy to decode-heavy; input and output tokens."""
SHAPES_CPU = "128x4,64x16,16x32"
PROMPTS, PROMPTS_CPU = 64, 24
"""Requests of each load."""


@dataclass(frozen=True)
class Cell:
    """One load: tokens of each prompt, tokens of each answer, requests at a time."""

    input_tokens: int
    output_tokens: int
    concurrency: int

    @property
    def label(self) -> str:
        """What it is called in tables and pictures: ``1024x16 c8``."""
        return f"{self.input_tokens}x{self.output_tokens} c{self.concurrency}"


@dataclass(frozen=True)
class PdWish:
    """Parameters of ``bench pd``; ``prompts`` are the requests of each load.

    ``max_minutes`` is the limit of each load.
    """

    shapes: tuple[tuple[int, int], ...]
    concurrencies: tuple[int, ...]
    prompts: int
    seed: int
    max_minutes: float

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every shape with every concurrency, in the order of measuring."""
        pairs = product(self.shapes, self.concurrencies)
        return tuple(Cell(*shape, concurrency) for shape, concurrency in pairs)

    @property
    def most_minutes(self) -> int:
        """The longest that all loads on both services can take."""
        return math.ceil(2 * len(self.cells) * self.max_minutes)

    def problems(self) -> list[str]:
        """Return one line for everything that is wrong."""
        found = []
        if self.prompts < 1:
            found.append(f"--prompts {self.prompts}: too small. Fix: use 1 or more")
        elif self.prompts < max(self.concurrencies, default=1):
            most = max(self.concurrencies)
            cause = f"so many cannot be {most} at a time"
            found.append(f"--prompts {self.prompts}: {cause}. Fix: use {most} or more")
        if self.seed < 0:
            found.append(f"--seed {self.seed}: -1 and 1 are one to Python. Fix: use 0 or more")
        if not 0 < self.max_minutes < math.inf:
            line = f"--max-minutes {self.max_minutes:g}: no limit of time"
            found.append(f"{line}. Fix: use more than 0")
        return found

    def too_long(self, max_model_len: int) -> list[str]:
        """Return one line for each shape that the model does not take."""
        cause = f"the model takes {max_model_len} tokens with the answer"
        fix = "use a smaller one, or raise pd_max_model_len"
        return [
            f"--shapes {shape[0]}x{shape[1]}: {cause}. Fix: {fix}"
            for shape in self.shapes
            if shape[0] * MARGIN + shape[1] > max_model_len
        ]

    def dataset(self, number: int, tokens_per_word: float) -> Shape:
        """Return the prompts of one cell, by its place in ``cells``.

        Each is a group of its own, so no two begin alike; each cell has a seed of its own, so none
        is in a cache from the cell before.
        """
        words = max(2, round(self.cells[number].input_tokens / tokens_per_word))
        return Shape(self.prompts, 1, 1, words - 1, self.seed + number)


def shapes(text: str) -> tuple[tuple[int, int], ...]:
    """Return the shapes of ``1024x16,64x128``. Raises ValueError with the line to show."""
    fix = "give input x output tokens, at least 16 and 2, each pair once, e.g. 1024x16,64x128"
    error = ValueError(f"--shapes {text}: no list of shapes. Fix: {fix}")
    found = []
    for word in text.split(","):
        numbers = [_number(part) for part in word.strip().split("x")]
        # An answer of one token has no time per further token.
        if len(numbers) != 2 or numbers[0] < 16 or numbers[1] < 2:
            raise error
        found.append((numbers[0], numbers[1]))
    if len(set(found)) < len(found):
        raise error
    return tuple(found)


def concurrencies(text: str) -> tuple[int, ...]:
    """Return the numbers of ``1,8``. Raises ValueError with the line to show."""
    found = tuple(_number(word.strip()) for word in text.split(","))
    if min(found) < 1 or len(set(found)) < len(found):
        fix = "give requests at a time, 1 or more, each once, e.g. 1,8"
        raise ValueError(f"--concurrency {text}: no list of numbers. Fix: {fix}")
    return found


def default_shapes(accelerator: Accelerator) -> str:
    """Return the shapes that a service can be asked within minutes."""
    return SHAPES_CPU if accelerator == "cpu" else SHAPES


def default_prompts(accelerator: Accelerator) -> int:
    """Return the requests of each load."""
    return PROMPTS_CPU if accelerator == "cpu" else PROMPTS


def _number(word: str) -> int:
    """Return a whole number, -1 for anything else."""
    return int(word) if word.isascii() and word.isdigit() and len(word) < 8 else -1
