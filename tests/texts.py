"""Prompts of every length, and whether two servers of the tiny model say the same to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

import httpx

ORDINARY = range(3, 2048)
"""Tokens of the tiny model that are none of its special ones (tokenizer.json)."""
ANSWER_TOKENS = 16


@dataclass(frozen=True)
class Difference:
    """A prompt that two servers answered differently: its place, its tokens, both texts."""

    index: int
    length: int
    first: str
    second: str


def prompts(count: int = 100, longest: int = 3000, seed: int = 0) -> list[list[int]]:
    """Return prompts of exactly 1 to ``longest`` tokens, as token ids.

    The logarithms of their lengths are evenly spread, so that there are as many of 1 to 10 tokens
    as of 100 to 1000; the first is one token long, the last ``longest``. The order is the seed's.
    """
    random = Random(seed)
    step = math.log(longest) / max(1, count - 1)
    lengths = [round(math.exp(step * index)) for index in range(count)]
    random.shuffle(lengths)
    return [random.choices(ORDINARY, k=length) for length in lengths]


def differences(
    first: str, second: str, model: str, asked: Sequence[Sequence[int]], at_once: int = 4
) -> list[Difference]:
    """Ask two base URLs, one after the other, and return the prompts whose texts differ.

    Both must compute in float32: the tiny model's random weights leave the best tokens so close
    together that bfloat16 chooses between them by how a prompt is cut (reference of vLLM on CPU).
    Raises httpx.HTTPStatusError for an answer that is not 200.
    """
    texts = [completions(url, model, asked, at_once) for url in (first, second)]
    return [
        Difference(index, len(prompt), *pair)
        for index, (prompt, *pair) in enumerate(zip(asked, *texts, strict=True))
        if pair[0] != pair[1]
    ]


def completions(
    url: str, model: str, asked: Sequence[Sequence[int]], at_once: int = 4
) -> list[str]:
    """Return a server's most likely texts for prompts, so many asked at the same time.

    Raises httpx.HTTPStatusError for an answer that is not 200.
    """
    with (
        httpx.Client(base_url=url, timeout=180, trust_env=False) as client,
        ThreadPoolExecutor(at_once) as threads,
    ):
        return list(threads.map(lambda prompt: _complete(client, model, prompt), asked))


def _complete(client: httpx.Client, model: str, prompt: Sequence[int]) -> str:
    body = {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
    }
    answer = client.post("/v1/completions", json=body).raise_for_status()
    text: str = answer.json()["choices"][0]["text"]
    return text
