"""What a measurement is to be, as the user says it, and what is wrong with that."""

from __future__ import annotations

from dataclasses import dataclass

from pdinfra.bench.dataset import Shape

MARGIN = 1.05
"""Random words of one number differ a little in tokens."""

TEMPLATE_TOKENS = 64
"""What a chat template adds, at most about so many (Qwen2.5's with its system prompt: 30)."""


@dataclass(frozen=True)
class Wish:
    """Parameters of ``bench ttft``; lengths are tokens, ``shared`` is percent of a prompt."""

    lengths: tuple[int, ...]
    groups: int
    prompts_per_group: int
    shared: int
    seed: int
    concurrency: int
    output_tokens: int
    max_minutes: float

    def problems(self) -> list[str]:
        """Return one line for everything that is wrong."""
        least = {
            "--groups": self.groups,
            "--prompts": self.prompts_per_group,
            "--concurrency": self.concurrency,
            "--output-tokens": self.output_tokens,
        }
        found = [
            f"{name} {value}: too small. Fix: use 1 or more"
            for name, value in least.items()
            if value < 1
        ]
        if not 0 <= self.shared <= 99:
            found.append(
                f"--shared {self.shared}: not a share of a prompt. Fix: use 0 to 99 percent"
            )
        if self.seed < 0:
            found.append(f"--seed {self.seed}: -1 and 1 are one to Python. Fix: use 0 or more")
        if self.max_minutes <= 0:
            line = f"--max-minutes {self.max_minutes:g}: no time at all"
            found.append(f"{line}. Fix: use more than 0")
        return found

    def shapes(self, tokens_per_word: float) -> dict[int, Shape]:
        """Return the dataset of each length.

        Each has a seed of its own, counted up from the wish's: with one seed for all, a longer
        prompt would begin as a shorter one, and be in the cache before it is measured.
        """
        found = {}
        for number, length in enumerate(self.lengths):
            words = max(2, round(length / tokens_per_word))
            prefix = min(round(words * self.shared / 100), words - 1)
            found[length] = Shape(
                self.groups, self.prompts_per_group, prefix, words - prefix, self.seed + number
            )
        return found

    def too_long(self, max_model_len: int) -> list[str]:
        """Return one line for each length that the model does not take with its answer."""
        room = int((max_model_len - self.output_tokens - TEMPLATE_TOKENS) / MARGIN)
        cause = f"the model takes {max_model_len} tokens with the answer"
        fix = f"use at most {room}, or raise pd_max_model_len"
        return [
            f"--lengths {length}: {cause}. Fix: {fix}" for length in self.lengths if length > room
        ]


def lengths(text: str) -> tuple[int, ...]:
    """Return the lengths of ``1000,2000,4000``. Raises ValueError with the line to show."""
    fix = "give numbers of tokens of 16 or more, each once, e.g. 1000,2000,4000"
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 8 for word in words):
        raise ValueError(f"--lengths {text}: no list of numbers. Fix: {fix}")
    found = tuple(int(word) for word in words)
    if min(found) < 16 or len(set(found)) < len(found):
        raise ValueError(f"--lengths {text}: too short, or twice the same. Fix: {fix}")
    return found
