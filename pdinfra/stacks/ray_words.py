"""Words of a command line as arguments by name: Ray Serve LLM has no command line for its engines.

Source: vLLM 0.32, ``vllm serve --help``: options have one value, lists and objects as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

OPTION = re.compile(r"--[a-zA-Z][\w-]*")
SHORT = re.compile(r"-[a-zA-Z]")


def arguments(words: Sequence[str]) -> dict[str, Any]:
    """Return what an engine takes: ``--a-b 1`` is a_b: 1, ``--a`` is true, ``--no-a`` false."""
    found: dict[str, Any] = {}
    for option, values in _options(words):
        name = option.removeprefix("--").replace("-", "_")
        if values:
            found[name] = _value(values[-1])
        elif name.startswith("no_"):
            found[name.removeprefix("no_")] = False
        else:
            found[name] = True
    return found


def unreadable(words: Sequence[str]) -> list[str]:
    """Return options of which no argument can be made, as they are written."""
    return [
        " ".join([option, *values]).strip()
        for option, values in _options(words)
        if not OPTION.fullmatch(option) or len(values) > 1 or any(map(SHORT.match, values))
    ]


def _options(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return options with their values; values before the first one belong to an empty name."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            found.append((name, [value] if equals else []))
        elif found:
            found[-1][1].append(word)
        else:
            found.append(("", [word]))
    return found


def _value(word: str) -> Any:
    """Return a value as JSON has it; what is none is a text."""
    try:
        return json.loads(word)
    except ValueError:
        return word
