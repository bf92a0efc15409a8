"""A list of prompts as single ones, and their answers as one.

A prefill engine of vLLM 0.32 hands over the KV of the first prompt alone: the others of a list come
back with a text that belongs to foreign KV, and status 200 (measured). One by one, all are right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
SHARED = ("id", "created", "model", "object", "system_fingerprint")
"""What is one for the whole answer."""


def singles(document: Document) -> list[dict[str, Any]]:
    """Return a request for each prompt, which differ in nothing else."""
    prompt = document["prompt"]
    if isinstance(prompt, str) or all(isinstance(each, int) for each in prompt):
        return [dict(document)]
    return [{**document, "prompt": each} for each in prompt]


def per_prompt(document: Document) -> int:
    """Return how many choices one prompt has."""
    return int(document.get("n") or 1)


def placed(part: Document, number: int, each: int) -> list[dict[str, Any]]:
    """Return an answer's choices as those of prompt ``number`` where each prompt has ``each``."""
    return [
        {**choice, "index": number * each + int(choice.get("index", 0))}
        for choice in part["choices"]
    ]


def joined(parts: Sequence[Document], each: int) -> dict[str, Any]:
    """Return whole answers, in the prompts' order, as one. Raises KeyError, TypeError."""
    choices = [
        choice
        for number, part in enumerate(parts)
        for choice in sorted(placed(part, number, each), key=lambda choice: choice["index"])
    ]
    usages = [part["usage"] for part in parts if part.get("usage") is not None]
    one = {**parts[0], "choices": choices}
    return {**one, "usage": added(usages)} if usages else one


def added(usages: Sequence[Document]) -> dict[str, Any]:
    """Return the sum of what was used, number by number; what is no number is the first's."""
    total: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            total[name] = _sum(total.get(name), value)
    return total


def _sum(one: Any, other: Any) -> Any:
    """Return two values of the same name as one."""
    if one is None:
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        return added([one, other])
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    return one


class Chunks:
    """The chunks of several streams as those of one; what a stream used is kept for the end."""

    def __init__(self, each: int) -> None:
        """Know nothing before the first chunk; a prompt has ``each`` choices."""
        self._each = each
        self._shared: dict[str, Any] = {}
        self._usages: list[Document] = []

    def merged(self, chunk: Document, number: int) -> dict[str, Any] | None:
        """Return a chunk of one stream as the client sees it; None if it only tells usage.

        Raises KeyError, TypeError where it is no chunk.
        """
        if not self._shared:
            self._shared = {name: chunk[name] for name in SHARED if name in chunk}
        if not chunk["choices"]:
            self._usages += [chunk["usage"]] if chunk.get("usage") else []
            return None
        return {**chunk, **self._shared, "choices": placed(chunk, number, self._each)}

    def usage(self) -> dict[str, Any] | None:
        """Return the last chunk before the end, if the streams told what they used."""
        if not self._usages:
            return None
        return {**self._shared, "choices": [], "usage": added(self._usages)}
