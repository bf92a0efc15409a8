"""Who a prefill or decode instance is, for the scheduler to ask: an ASGI middleware of vLLM's."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .options import Options
from .tables import Tables

PATH = "/pdinfra-sim/member"
VARIABLE = "PDINFRA_SIM_MEMBER"
"""From start_servers.sh to vLLM's own process; nobody else sets it."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def identity(tables: Tables, options: Options) -> dict[str, Any]:
    """Return what an instance says of itself."""
    return {
        "role": tables.role,
        "server": str(tables.server),
        "global_sha256": tables.digest,
        "models": list(options.model_names),
    }


class Middleware:
    """Answer at PATH; everything else is vLLM's."""

    def __init__(self, app: App) -> None:
        """Take the application below."""
        self._app = app
        self._body = os.environ[VARIABLE].encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})
