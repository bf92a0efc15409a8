"""The way out to one client: begins with the first byte, and waits no longer than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import hdrs, web


class Outlet:
    """An answer that is 200 once something was written; until then it may still be an error.

    A client that takes its time holds up what sends to it, so what is in memory stays some 100 kB;
    one that takes nothing for ``stall`` seconds is cut.
    """

    def __init__(self, request: web.Request, stall: float) -> None:
        """Send nothing yet; ``headers`` may be set until the first byte."""
        self.headers: Mapping[str, str] = {hdrs.CONTENT_TYPE: "text/event-stream"}
        self._request = request
        self._stall = stall
        self._lock = asyncio.Lock()
        self._response: web.StreamResponse | None = None

    @property
    def begun(self) -> bool:
        """Tell whether the status is out."""
        return self._response is not None

    async def write(self, data: bytes) -> None:
        """Send more, from several tasks in turn. Raises ConnectionError if nobody takes it."""
        async with self._lock:
            try:
                async with asyncio.timeout(self._stall):
                    if self._response is None:
                        self._response = web.StreamResponse(headers=self.headers)
                        await self._response.prepare(self._request)
                    await self._response.write(data)
            except TimeoutError:
                raise self.cut("the client takes nothing") from None

    async def end(self) -> web.StreamResponse:
        """Finish the answer, which has begun."""
        if self._response is None:
            raise ValueError("an answer without content has no end")
        await self._response.write_eof()
        return self._response

    def cut(self, why: str) -> ConnectionError:
        """Break the connection, for an answer that broke off must not look complete."""
        if self._request.transport is not None:
            self._request.transport.abort()
        return ConnectionResetError(why)
