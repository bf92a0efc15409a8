"""Reading bodies: no longer, no larger and no more of them at a time than memory allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from pdinfra_router.errors import RefusedError, unavailable


@dataclass
class Bodies:
    """``one`` body's most bytes, those of ``all`` in hand, and the seconds to send one."""

    one: int
    all: int
    seconds: float
    held: int = field(default=0, init=False)

    @asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """Give a body, counted until the block ends. Raises RefusedError: 400, 408, 413, 503."""
        if (request.content_length or 0) > self.one:
            raise self._large()
        mine = 0
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(self.seconds):
                    async for part in request.content.iter_any():
                        parts.append(part)
                        mine += len(part)
                        self.held += len(part)
                        self._check(mine)
            except TimeoutError:
                raise RefusedError(
                    408, f"the body did not come within {self.seconds:g} s", code="timeout"
                ) from None
            except web.RequestPayloadError:
                raise RefusedError(400, "the body cannot be read", code="invalid_body") from None
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self.held -= mine

    def _check(self, mine: int) -> None:
        """Refuse what is too much."""
        if mine > self.one:
            raise self._large()
        if self.held > self.all:
            raise unavailable("too many large requests at a time; try again")

    def _large(self) -> RefusedError:
        """Return 413."""
        message = f"the request is larger than {self.one} bytes"
        return RefusedError(413, message, code="request_too_large")
