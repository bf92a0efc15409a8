"""The long-prompt dataset of guide yuanrong-pd-disaggregation: groups that share a prefix."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterable
from dataclasses import dataclass

ALPHABET = string.ascii_letters + string.digits
WORD = 5
"""Characters of a random word; a tokenizer makes several tokens of one."""


@dataclass(frozen=True)
class Shape:
    """What a dataset is made of; lengths are random words, as in the guide (not tokens)."""

    groups: int
    prompts_per_group: int
    prefix_words: int
    suffix_words: int
    seed: int

    @property
    def size(self) -> int:
        """How many prompts it has."""
        return self.groups * self.prompts_per_group

    @property
    def repeated(self) -> float:
        """The share of all words that a cache which starts empty can already know, at best."""
        words = self.prefix_words + self.suffix_words
        return (1 - 1 / self.prompts_per_group) * self.prefix_words / words


def generate(shape: Shape) -> list[str]:
    """Return the prompts, shuffled: the guide's own, for the same seed and shape.

    Source: the guide's gen_random_prompts() after random.seed(seed); the order of draws is part of
    the result.
    """
    rng = random.Random(shape.seed)
    prompts = []
    for _ in range(shape.groups):
        prefix = _words(rng, shape.prefix_words)
        for _ in range(shape.prompts_per_group):
            prompts.append(f"{prefix} {_words(rng, shape.suffix_words)}")
    rng.shuffle(prompts)
    return prompts


def jsonl(prompts: Iterable[str]) -> str:
    """Return the file that ``vllm bench serve --dataset-name=custom`` reads."""
    return "".join(json.dumps({"prompt": p}, ensure_ascii=False) + "\n" for p in prompts)


def _words(rng: random.Random, count: int) -> str:
    """Return so many random words."""
    return " ".join("".join(rng.choices(ALPHABET, k=WORD)) for _ in range(count))
