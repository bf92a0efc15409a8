"""The reverse proxy: every request goes to the router that serves now, streams pass through."""

from __future__ import annotations

from aiohttp import ClientError, ClientResponse, ClientSession, hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pdinfra_router.handover import Handover
from pdinfra_router.routers import Slot

BODY_BYTES = 64 << 20
"""A prompt of a million tokens is about 4 MB."""
HOP_BY_HOP = frozenset(
    name.lower()
    for name in (
        hdrs.CONNECTION,
        hdrs.KEEP_ALIVE,
        hdrs.PROXY_AUTHENTICATE,
        hdrs.PROXY_AUTHORIZATION,
        hdrs.TE,
        hdrs.TRAILER,
        hdrs.TRANSFER_ENCODING,
        hdrs.UPGRADE,
        hdrs.CONTENT_LENGTH,
        hdrs.HOST,
    )
)
"""RFC 9110 section 7.6.1, and the two that belong to one connection."""


class Front:
    """Two applications: the API, and the metrics of the router that serves."""

    def __init__(self, handover: Handover, session: ClientSession) -> None:
        """Forward with ``session``."""
        self._handover = handover
        self._session = session

    def apps(self) -> tuple[web.Application, web.Application]:
        """Return the API's application and the metrics'."""
        api = web.Application(client_max_size=BODY_BYTES)
        api.router.add_get("/liveness", self._live)
        api.router.add_get("/pdinfra/members", self._members)
        api.router.add_route("*", "/{path:.*}", self._forward)
        metrics = web.Application()
        metrics.router.add_get("/metrics", self._metrics)
        return api, metrics

    async def _live(self, request: web.Request) -> web.Response:
        """Answer: the front is there, whatever its members do."""
        return web.Response(text="OK")

    async def _members(self, request: web.Request) -> web.Response:
        """Return who serves and what a change waits for."""
        return web.json_response(self._handover.state())

    async def _metrics(self, request: web.Request) -> web.Response:
        """Return the metrics of the router that serves."""
        slot = self._handover.slots.active
        if slot is None:
            return _unavailable("no member answers yet")
        try:
            async with self._session.get(slot.metrics_url) as answer:
                body = await answer.read()
        except ClientError:
            return _unavailable("the router did not answer")
        return web.Response(status=answer.status, headers=_kept(answer.headers), body=body)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        """Hand a request on to the router that serves now."""
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _error(413, f"the request is larger than {BODY_BYTES} bytes")
        slot = self._handover.slots.active
        if slot is None:
            return _unavailable("no prefill and decode pair answers yet")
        slot.in_flight += 1
        try:
            return await self._through(slot, request, body)
        except ClientError:
            return _unavailable("the router did not answer")
        finally:
            slot.in_flight -= 1

    async def _through(self, slot: Slot, request: web.Request, body: bytes) -> web.StreamResponse:
        """Send a request to one router and pass its answer on as it comes."""
        async with self._session.request(
            request.method,
            URL(f"{slot.url}{request.raw_path}", encoded=True),
            headers=_kept(request.headers),
            data=body or None,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
            if answer.content_length is not None:
                response.content_length = answer.content_length
            await response.prepare(request)
            await _pass_on(answer, response)
            return response


async def _pass_on(answer: ClientResponse, response: web.StreamResponse) -> None:
    """Copy a body chunk by chunk; a body that breaks off must not look complete."""
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    except ClientError as error:
        # The status is out already: only a broken connection tells the client.
        raise ConnectionResetError("the router broke off") from error
    await response.write_eof()


def _kept(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return the headers that concern both ends."""
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in HOP_BY_HOP)


def _unavailable(message: str) -> web.Response:
    """Return 503: try again."""
    response = _error(503, message)
    response.headers[hdrs.RETRY_AFTER] = "1"
    return response


def _error(status: int, message: str) -> web.Response:
    """Return an error in OpenAI's form."""
    error = {"message": message, "type": "service_unavailable" if status == 503 else "invalid"}
    return web.json_response({"error": {**error, "code": status}}, status=status)
