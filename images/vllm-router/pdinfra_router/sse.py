"""Server-sent events as OpenAI's API uses them: one line of data each, and a word at the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

DONE = b"[DONE]"
LINE_BYTES = 16 << 20
"""One event; a chunk with logprobs is some kB."""


class BrokenError(Exception):
    """An answer of the inside broke off or was not what it must be."""


async def data(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what each event holds. Raises BrokenError if an event has no end."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES:
            raise BrokenError("an event without end")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if rest.startswith(b"data:"):
        yield rest[5:].strip()


def event(document: Any) -> bytes:
    """Return a JSON document as an event."""
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


END = b"data: " + DONE + b"\n\n"


def ended(tail: bytes) -> bool:
    """Tell by its last bytes whether a stream came to its end."""
    return tail.rstrip().endswith(DONE)
