"""What stands between the entry and the engines: vllm-router, or pdinfra's own proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from multidict import CIMultiDict


@dataclass(frozen=True)
class Call:
    """A client's request, checked and read whole.

    ``path``: as sent, with the query. ``body`` is what is sent on; ``document`` the same, parsed,
    for completions and chat completions, where a body is one prompt or one conversation; else None.
    ``headers`` are those that concern both ends.
    """

    method: str
    path: str
    headers: CIMultiDict[str]
    body: bytes
    document: Mapping[str, Any] | None
    request_id: str


@dataclass(frozen=True)
class Answer:
    """An engine's answer; ``chunks`` raises ClientError where it breaks off."""

    status: int
    headers: CIMultiDict[str]
    chunks: AsyncIterator[bytes]


class UnavailableError(Exception):
    """Nobody can answer now; the text says why, without any address. Nothing was sent yet."""


class Backend(Protocol):
    """Answers calls by way of the members that are well."""

    def open(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """Return the answer as it comes. Raises UnavailableError before its first byte."""
        ...

    async def watch(self, seconds: float) -> None:
        """Follow the file of members and the members' state until cancelled."""
        ...

    async def finish(self, seconds: float) -> None:
        """Wait for the requests that are being answered, at most so long."""
        ...

    def state(self) -> dict[str, Any]:
        """Return who serves and what a change waits for (GET /pdinfra/members)."""
        ...

    async def metrics(self) -> bytes:
        """Return Prometheus text of its own, empty where it has none."""
        ...

    def stop(self) -> None:
        """End what was started."""
        ...
