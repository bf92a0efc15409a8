"""The entry: checks requests, asks the backend, and answers as OpenAI does, whatever is inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from multidict import CIMultiDict

from pdinfra_router import checks
from pdinfra_router.access import ID_HEADER, REQUEST_ID, STREAM, Access
from pdinfra_router.answers import Several, passed_on
from pdinfra_router.backend import Backend, Call
from pdinfra_router.bodies import Bodies
from pdinfra_router.entry_metrics import EntryMetrics
from pdinfra_router.errors import RefusedError, unavailable
from pdinfra_router.headers import kept
from pdinfra_router.outlet import Outlet
from pdinfra_router.prompts import singles

NOT_PASSED = (hdrs.ACCEPT_ENCODING, hdrs.CONTENT_ENCODING, hdrs.EXPECT)
"""Bodies come and go as they are: aiohttp unpacked the request's, and the answer's is looked at."""


@dataclass(frozen=True)
class Limits:
    """What clients may take; ``stall``: seconds without taking a byte of a waiting answer.

    ``requests`` is the one limit on requests in hand; a backend may rely on it.
    """

    requests: int
    prompts_at_once: int
    stall: float


class Front:
    """Two applications: the API, and the metrics of the entry and its backend."""

    def __init__(self, backend: Backend, limits: Limits, bodies: Bodies) -> None:
        """Answer by way of ``backend``."""
        self._backend = backend
        self._limits = limits
        self._bodies = bodies
        self._metrics = EntryMetrics()
        self._metrics.bodies_held.set_function(lambda: bodies.held)
        self._in_hand = 0

    def apps(self) -> tuple[web.Application, web.Application]:
        """Return the API's application and the metrics'."""
        api = web.Application()
        Access(self._metrics).join(api)
        api.router.add_get("/liveness", self._live)
        api.router.add_get("/health", self._health)
        api.router.add_get("/pdinfra/members", self._members)
        api.router.add_get("/v1/models", self._pass)
        for path in ("/tokenize", "/detokenize"):
            api.router.add_post(path, self._pass)
        for path in (checks.COMPLETIONS, checks.CHAT):
            api.router.add_post(path, self._complete)
        metrics = web.Application()
        metrics.router.add_get("/metrics", self._tell)
        return api, metrics

    async def _live(self, request: web.Request) -> web.Response:
        """Answer: the front is there, whatever its members do."""
        return web.Response(text="OK")

    async def _health(self, request: web.Request) -> web.Response:
        """Answer whether requests can be answered."""
        roles = self._roles()
        if "mixed" not in roles and not {"prefill", "decode"} <= roles:
            raise unavailable("no prefill and decode pair answers yet")
        return web.Response(text="OK")

    async def _members(self, request: web.Request) -> web.Response:
        """Return who serves and what a change waits for."""
        return web.json_response(self._backend.state())

    async def _tell(self, request: web.Request) -> web.Response:
        """Return the entry's metrics and the backend's own."""
        text = self._metrics.text() + await self._backend.metrics()
        return web.Response(body=text, content_type="text/plain", charset="utf-8")

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        """Pass on what any member can answer by itself."""
        with self._counted():
            async with self._bodies.read(request) as body:
                outlet = Outlet(request, self._limits.stall)
                return await passed_on(self._backend, _call(request, body, None), outlet)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        """Answer a prompt, a list of prompts or a conversation."""
        with self._counted():
            async with self._bodies.read(request) as body:
                self._metrics.body_bytes.observe(len(body))
                document = checks.document(request.path, body)
                request[STREAM] = document.get("stream") is True
                self._check_scores(document)
                outlet = Outlet(request, self._limits.stall)
                call = _call(request, body, document)
                if request.path == checks.CHAT or len(prompts := singles(document)) == 1:
                    return await passed_on(self._backend, call, outlet)
                several = Several(self._backend, call, self._limits.prompts_at_once)
                if request[STREAM]:
                    return await several.stream(prompts, outlet)
                whole = await several.whole(prompts)
                return web.Response(body=whole, content_type="application/json")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Have one request more in hand. Raises RefusedError with status 503."""
        if self._in_hand >= self._limits.requests:
            self._metrics.refused.inc()
            raise unavailable("too many requests at a time; try again")
        self._in_hand += 1
        try:
            yield
        finally:
            self._in_hand -= 1

    def _check_scores(self, document: Mapping[str, Any]) -> None:
        """Refuse to score a prompt where decode answers: it reads a prompt's KV, not its logits."""
        param = checks.scores_prompt(document)
        if param and "mixed" not in self._roles():
            message = (
                "the prompt's logprobs cannot be had here: decode gets the prompt's KV and does "
                f"not compute the prompt. Leave out '{param}', or ask a service of role mixed"
            )
            raise RefusedError(400, message, param=param, code="unsupported_parameter")

    def _roles(self) -> set[str]:
        """Return the roles of the members that serve."""
        return {str(member["role"]) for member in self._backend.state()["active"]}


def _call(request: web.Request, body: bytes, document: Mapping[str, Any] | None) -> Call:
    """Return a request as the backend is to send it."""
    named = {each.strip().lower() for each in request.headers.get(hdrs.CONNECTION, "").split(",")}
    headers = CIMultiDict(
        (name, value) for name, value in kept(request.headers).items() if name.lower() not in named
    )
    for name in NOT_PASSED:
        headers.popall(name, None)
    headers[ID_HEADER] = request[REQUEST_ID]
    return Call(request.method, request.raw_path, headers, body, document, request[REQUEST_ID])
