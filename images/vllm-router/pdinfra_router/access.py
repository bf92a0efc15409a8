"""Around every request: its id, one line of log, its counts, and errors in OpenAI's form."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from pdinfra_router.entry_metrics import EntryMetrics
from pdinfra_router.errors import RefusedError, failed

ID_HEADER = "X-Request-Id"
HARMLESS = re.compile(r"[\x21-\x7e]{1,128}")
"""No space: the log's words are parted by it."""
PATH_CHARACTERS = 200
CLIENT_LEFT = 499
"""nginx's word for a client that did not wait; it is never sent."""
REQUEST_ID = web.RequestKey("id", str)
STREAM = web.RequestKey("stream", bool)
_STARTED = web.RequestKey("started", float)
_RESPONSE = web.RequestKey("response", web.StreamResponse)
PROBES = frozenset({"/liveness", "/health", "/pdinfra/members"})
log = logging.getLogger("pdinfra_router.access")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """A middleware, and what it wants to know of answers that begin."""

    def __init__(self, metrics: EntryMetrics) -> None:
        """Count with ``metrics``."""
        self._metrics = metrics

    def join(self, app: web.Application) -> None:
        """Stand around all requests of an application."""

        @web.middleware
        async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._around(request, handler)

        app.middlewares.append(around)
        app.on_response_prepare.append(self._begins)

    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, and tell how that went."""
        request[_STARTED] = time.perf_counter()
        request[REQUEST_ID] = identity(request.headers.get(ID_HEADER))
        self._metrics.in_hand.inc()
        end = "gone"
        try:
            response = await answered(request, handler)
            end = "whole"
            if not response.prepared:
                # Sent by aiohttp after this returns: whether it arrives is not known here.
                request[_RESPONSE] = response
            return response
        except ConnectionError:
            end = "broken"
            raise
        finally:
            self._metrics.in_hand.dec()
            self._tell(request, end)

    async def _begins(self, request: web.Request, response: web.StreamResponse) -> None:
        """Give an answer its id, and note when it began."""
        response.headers[ID_HEADER] = request[REQUEST_ID]
        request[_RESPONSE] = response
        seconds = time.perf_counter() - request[_STARTED]
        self._metrics.first_byte_seconds.labels(template(request)).observe(seconds)

    def _tell(self, request: web.Request, end: str) -> None:
        """Count and log one request. Neither its query nor its body is anybody's business."""
        response = request.get(_RESPONSE)
        status = response.status if response is not None else CLIENT_LEFT
        seconds = time.perf_counter() - request[_STARTED]
        self._metrics.requests.labels(template(request), str(status)).inc()
        self._metrics.seconds.labels(template(request)).observe(seconds)
        if end != "whole" and response is not None:
            self._metrics.broken.inc()
        # What looks in every few seconds would fill the log and hide the requests in it.
        quiet = request.path in PROBES and status < 400
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "id=%s method=%s path=%s status=%d bytes=%d ms=%.1f stream=%s end=%s",
            request[REQUEST_ID],
            request.method,
            request.rel_url.raw_path[:PATH_CHARACTERS],
            status,
            _sent(response),
            seconds * 1000,
            "yes" if request.get(STREAM) else "no",
            end,
        )


async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return the handler's answer, or the error that it raised as OpenAI says it."""
    try:
        return await handler(request)
    except RefusedError as error:
        return refusal(error)
    except web.HTTPNotFound:
        message = f"unknown path: {request.method} {request.rel_url.raw_path[:PATH_CHARACTERS]}"
        return refusal(RefusedError(404, message, code="unknown_url"))
    except web.HTTPMethodNotAllowed as error:
        message = f"{request.method} is not allowed here"
        response = refusal(RefusedError(405, message, code="method_not_allowed"))
        response.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
        return response
    except ConnectionError:
        raise
    except Exception:
        log.exception("id=%s failed", request[REQUEST_ID])
        if (begun := request.get(_RESPONSE)) is not None and begun.prepared:
            raise
        return refusal(failed("the entry failed on this request", 500))


def refusal(error: RefusedError) -> web.Response:
    """Return an error as an answer."""
    return web.Response(
        status=error.status,
        headers=error.headers,
        body=error.body(),
        content_type="application/json",
    )


def identity(given: str | None) -> str:
    """Return a client's own id if it is harmless, else a new one."""
    if given is not None and HARMLESS.fullmatch(given):
        return given
    return uuid.uuid4().hex


def template(request: web.Request) -> str:
    """Return the path as it stands in the routes: clients must not make metrics' labels."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "other"


def _sent(response: web.StreamResponse | None) -> int:
    """Return the bytes of an answer's body."""
    if response is None:
        return 0
    if isinstance(response, web.Response):
        return len(response.body) if isinstance(response.body, bytes | bytearray) else 0
    return response.body_length
