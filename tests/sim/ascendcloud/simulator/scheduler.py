"""The service's entry: a request goes to a prefill instance, then with its KV to a decode one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any

from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector, hdrs, web

from .fleet import FAILURES, Fleet, Member, meet, members
from .options import Options
from .refusal import RefusalError
from .tables import Tables

BODY_BYTES = 64 << 20
STOP_SECONDS = 3
"""How long running requests may go on when the scheduler is stopped."""
REMOTE_DECODE = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
"""What NIXL's connector wants of prefill."""
NOT_FOR_PREFILL = ("stream_options", "min_tokens", "max_completion_tokens", "kv_transfer_params")


class MemberFailedError(Exception):
    """A member did not do its part, and the client has seen nothing of it yet."""

    def __init__(self, member: Member, cause: str) -> None:
        """cause: what it did instead."""
        super().__init__(f"{member}: {cause}")
        self.member = member


class Scheduler:
    """The HTTP application."""

    def __init__(self, fleet: Fleet, session: ClientSession, models: list[str]) -> None:
        """models: the names that requests may use."""
        self._fleet = fleet
        self._session = session
        self._models = models

    def app(self, *, openai: bool) -> web.Application:
        """Return the application: OpenAI's interface, or vLLM's old one."""
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_get("/healthcheck", self._health)
        if not openai:
            app.router.add_post("/generate", self._generate)
            return app
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._list)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        """Answer 200 while there is a prefill and a decode instance, else 503."""
        seen = {str(each): "up" if each.up else "down" for each in self._fleet.members}
        return web.json_response(seen, status=200 if self._fleet.ready else 503)

    async def _list(self, request: web.Request) -> web.Response:
        """Answer what a decode instance says of the model."""
        member = self._fleet.decode(())
        if member is None:
            return _error(503, "no decode instance answers")
        try:
            async with self._session.get(f"{member.url}/v1/models", headers=_own(request)) as found:
                return await _whole(found)
        except FAILURES as error:
            member.up = False
            return _error(503, f"{member}: {error}")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        """Serve a completion of OpenAI's."""
        body = await _document(request)
        if problem := self._problem(body):
            return problem
        return await self._serve(request, request.path, body)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        """Serve POST /generate of vLLM's old server: prompt and text come back as one."""
        body = await _document(request)
        if body.get("stream"):
            return _error(400, "the SIMULATOR's /generate does not stream")
        body["model"] = self._models[0]
        if problem := self._problem(body):
            return problem
        answer = await self._serve(request, "/v1/completions", body)
        if answer.status != 200 or not isinstance(answer, web.Response):
            return answer
        text = json.loads(answer.text or "")["choices"][0]["text"]
        return web.json_response({"text": [f"{body['prompt']}{text}"]})

    def _problem(self, body: dict[str, Any]) -> web.Response | None:
        """Return an error for what cannot be served."""
        if body.get("model") not in self._models:
            return _error(404, f"The model `{body.get('model')}` does not exist.")
        prompt = body.get("prompt")
        several = isinstance(prompt, list) and not all(isinstance(each, int) for each in prompt)
        if (several and len(prompt or []) > 1) or (body.get("n") or 1) != 1:
            # One KV handle comes back from prefill: the others would decode on foreign KV.
            return _error(400, "one prompt and one choice (n) in a request, please")
        return None

    async def _serve(
        self, request: web.Request, path: str, body: dict[str, Any]
    ) -> web.StreamResponse:
        """Try until a pair has served the request, or nobody is left to try."""
        failed: dict[Member, str] = {}
        while True:
            prefill, decode = await self._fleet.prefill(failed), self._fleet.decode(failed)
            if prefill is None or decode is None:
                missing = "prefill" if prefill is None else "decode"
                causes = "; ".join(failed.values())
                return _error(503, f"no {missing} instance is left that answers. {causes}".strip())
            try:
                return await self._pair(request, path, body, prefill, decode)
            except MemberFailedError as error:
                print(f"{error}; trying another one", flush=True)
                failed[error.member] = str(error)

    async def _pair(
        self,
        request: web.Request,
        path: str,
        body: dict[str, Any],
        prefill: Member,
        decode: Member,
    ) -> web.StreamResponse:
        """Serve a request with one pair. Raises MemberFailedError."""
        first = {key: value for key, value in body.items() if key not in NOT_FOR_PREFILL}
        first |= {"max_tokens": 1, "stream": False, "kv_transfer_params": REMOTE_DECODE}
        prefilled = await self._ask(prefill, path, first, request)
        if prefilled.status != 200:
            return prefilled
        handed = json.loads(prefilled.text or "").get("kv_transfer_params")
        second = {key: value for key, value in body.items() if key != "kv_transfer_params"}
        if handed:
            second["kv_transfer_params"] = handed
        if body.get("stream"):
            return await self._stream(decode, path, second, request)
        return await self._ask(decode, path, second, request)

    async def _ask(
        self, member: Member, path: str, body: dict[str, Any], request: web.Request
    ) -> web.Response:
        """Send one part of a request; return the whole answer. Raises MemberFailedError."""
        with _busy(member), _failures(member):
            async with self._post(member, path, body, request) as answer:
                await _check(member, answer)
                return await _whole(answer)

    async def _stream(
        self, member: Member, path: str, body: dict[str, Any], request: web.Request
    ) -> web.StreamResponse:
        """Send decode's part; pass the answer on as it comes. Raises MemberFailedError."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_busy(member))
            with _failures(member):
                sent = self._post(member, path, body, request)
                answer = await stack.enter_async_context(sent)
                await _check(member, answer)
                chunk = await answer.content.readany()
            response = web.StreamResponse(status=answer.status, headers=_kind(answer))
            await response.prepare(request)
            try:
                while chunk:
                    await response.write(chunk)
                    chunk = await answer.content.readany()
            except FAILURES as error:
                # The status is out already: only a broken connection tells the client.
                raise ConnectionResetError(f"{member} or the client broke off") from error
            await response.write_eof()
            return response

    def _post(
        self, member: Member, path: str, body: dict[str, Any], request: web.Request
    ) -> contextlib.AbstractAsyncContextManager[ClientResponse]:
        """Return a request to a member, to be entered."""
        return self._session.post(f"{member.url}{path}", json=body, headers=_own(request))


@contextlib.contextmanager
def _busy(member: Member) -> Iterator[None]:
    """Count a request as running at a member."""
    member.running += 1
    try:
        yield
    finally:
        member.running -= 1


@contextlib.contextmanager
def _failures(member: Member) -> Iterator[None]:
    """Take a member that cannot be talked to out of service until it answers /health again."""
    try:
        yield
    except FAILURES as error:
        member.up = False
        raise MemberFailedError(member, str(error) or type(error).__name__) from error


async def _check(member: Member, answer: ClientResponse) -> None:
    """Raise MemberFailedError for an error of the member's, not of the client's."""
    if answer.status >= 500:
        raise MemberFailedError(member, f"HTTP {answer.status}: {(await answer.text())[:200]}")


async def _document(request: web.Request) -> dict[str, Any]:
    """Return a request's JSON object."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(
            text=json.dumps(_problem(400, "the body is no JSON object")),
            content_type="application/json",
        )
    return body


async def _whole(answer: ClientResponse) -> web.Response:
    """Return an answer as it came."""
    return web.Response(status=answer.status, headers=_kind(answer), body=await answer.read())


def _kind(answer: ClientResponse) -> dict[str, str]:
    """Return the header that says what an answer is."""
    return {hdrs.CONTENT_TYPE: answer.headers.get(hdrs.CONTENT_TYPE, "application/json")}


def _own(request: web.Request) -> dict[str, str]:
    """Return the client's headers that members need: vLLM's --api-key."""
    return {k: v for k, v in request.headers.items() if k == hdrs.AUTHORIZATION}


def _problem(status: int, message: str) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    return {"error": {"message": message, "type": "scheduler", "code": status}}


def _error(status: int, message: str) -> web.Response:
    """Return an error as an answer."""
    return web.json_response(_problem(status, message), status=status)


async def serve(tables: Tables, options: Options, node_ports: str, *, openai: bool) -> None:
    """Meet the members, then serve until the task is cancelled. Raises RefusalError.

    The client takes http_proxy and no_proxy from the environment: the guide's trap.
    """
    found = members(tables, node_ports)
    timeout = ClientTimeout(total=None, sock_connect=5)
    # vLLM closes a connection that is idle for 5 s: one that it is just closing is not to be used.
    connector = TCPConnector(limit=0, keepalive_timeout=2)
    async with ClientSession(connector=connector, trust_env=True, timeout=timeout) as session:
        theirs = await meet(session, found, tables, options if openai else None)
        fleet = Fleet(session, found, options.routing or "RoundRobin")
        names = list(options.model_names) if openai else theirs
        runner = web.AppRunner(
            Scheduler(fleet, session, names).app(openai=openai),
            handler_cancellation=True,
            shutdown_timeout=STOP_SECONDS,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, options.host, options.port).start()
            print(
                f"SIMULATOR of AscendCloud: scheduler on {options.host}:{options.port}", flush=True
            )
            await fleet.watch()
        finally:
            await runner.cleanup()


def run(tables: Tables, options: Options, node_ports: str, *, openai: bool) -> None:
    """Serve until SIGTERM or SIGINT. Raises RefusalError."""

    async def until_told() -> None:
        serving = asyncio.ensure_future(serve(tables, options, node_ports, openai=openai))
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    try:
        asyncio.run(until_told())
    except OSError as error:
        text = f"cannot listen on {options.host}:{options.port}: {error.strerror}"
        raise RefusalError(text) from None
