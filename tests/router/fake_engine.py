"""FAKE vLLM 0.32 engine: speaks a connector's protocol, computes nothing. Not the real thing.

What it keeps of the real one: the paths and their JSON, counters of /metrics by the source of a
prompt's KV, a NIXL handle that only the prefill that gave it knows and that is good once, a
Mooncake transfer that waits for its other half, the ids of P2pNcclConnector (a request without
them ends the engine), and that ExampleConnector's engine ends of a prompt of one token.
Prefills and decodes find each other's KV through the folder ``--kv``.

``POST /mode {"mode": ...}`` makes it sick: ``hang`` (health is well, no request is answered),
``die`` (breaks off in the middle of a stream), ``early`` (breaks off before the first byte),
``empty`` (a stream that ends at once), ``fail`` (500), ``ill`` (health is 503, 500), ``slow``
(a token each 50 ms), ``reject`` (400), ``flood`` (16 MB in a stream), ``cold`` (its first pair
request takes long), ``crawl`` (answers after a while, and its counters move meanwhile).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web


@dataclass(frozen=True)
class Options:
    """``bootstrap_port``: of Mooncake's bootstrap server, 0 for none; ``kv``: a folder."""

    port: int
    bootstrap_port: int
    protocol: str
    role: str
    kv: Path
    mode: str


ADDRESSES = re.compile(r"___prefill_addr_(.+):(\d+)___decode_addr_(.+):(\d+)_[0-9a-f]{32}")
TOKENS = 20


class State:
    """What the engine counts, and how it behaves."""

    def __init__(self) -> None:
        self.engine = uuid.uuid4().hex
        self.mode = "well"
        self.sources = {"local_compute": 0, "external_kv_transfer": 0}
        self.steps = 0
        self.seen: list[dict[str, Any]] = []
        self.running = 0
        self.aborted = 0
        self.cold = True
        self.moving = asyncio.Event()

    def become(self, mode: str) -> None:
        self.mode = mode
        (self.moving.clear if mode == "hang" else self.moving.set)()


state = State()
options: Options


def tokens(document: dict[str, Any]) -> int:
    prompt = document.get("prompt", document.get("messages"))
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
        return len(prompt)
    return len(str(prompt).split())


def text(document: dict[str, Any]) -> str:
    return json.dumps(document.get("prompt", document.get("messages")))


def handle(name: str) -> Path:
    kv: Path = options.kv
    return kv / str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def taken(name: str) -> bool:
    try:
        handle(name).unlink()
    except FileNotFoundError:
        return False
    return True


async def has_kv(document: dict[str, Any], request_id: str) -> bool:
    """Tell whether decode gets this prompt's KV from a prefill."""
    params = document.get("kv_transfer_params") or {}
    if options.protocol == "sequential":
        return handle(text(document)).exists()
    if options.protocol == "p2p":
        return taken(request_id)
    if options.protocol == "nixl":
        return params.get("do_remote_prefill") is True and taken(
            f"{params['remote_engine_id']} {params['remote_block_ids']}"
        )
    if params.get("do_remote_prefill") is not True:
        return False
    async with (
        ClientSession() as session,
        session.get(f"{params['remote_bootstrap_addr']}/query") as answer,
    ):
        known = await answer.json()
    if params["remote_engine_id"] not in [each["engine_id"] for each in known.values()]:
        return False
    while not taken(params["transfer_id"]):
        await asyncio.sleep(0.01)
    return True


def give_kv(document: dict[str, Any], request_id: str) -> dict[str, Any] | None:
    """Keep this prompt's KV for decode; return what decode is to be told."""
    params = document.get("kv_transfer_params") or {}
    if options.protocol == "sequential":
        handle(text(document)).touch()
    elif options.protocol == "p2p":
        handle(request_id).touch()
    elif params.get("do_remote_decode") is not True:
        return None
    elif options.protocol == "mooncake":
        handle(params["transfer_id"]).touch()
    else:
        blocks = [uuid.uuid4().int % 1000000]
        handle(f"{state.engine} {blocks}").touch()
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_engine_id": state.engine,
            "remote_block_ids": blocks,
            "remote_host": "127.0.0.1",
            "remote_port": 5600,
        }
    return None


async def complete(request: web.Request) -> web.StreamResponse:
    document = await request.json()
    request_id = request.headers.get("X-Request-Id", "")
    if not text(document).count("a tiny prompt of the router"):
        state.seen.append({"id": request_id, "path": request.path, **document})
    await state.moving.wait()
    if options.protocol == "p2p" and not ADDRESSES.fullmatch(request_id):
        os._exit(1)  # parse_request_id raises in the worker.
    if options.protocol == "sequential" and tokens(document) < 2:
        os._exit(1)  # IndexError: index out of range in self.
    if state.mode in ("fail", "ill"):
        return web.json_response({"error": {"message": "CUDA error", "code": 500}}, status=500)
    if state.mode == "reject":
        return web.json_response({"error": {"message": "no such thing", "code": 400}}, status=400)
    if state.mode == "early":
        abort(request)
    state.running += 1
    try:
        return await answer(request, document, request_id)
    except asyncio.CancelledError:
        state.aborted += 1
        raise
    finally:
        state.running -= 1


async def answer(
    request: web.Request, document: dict[str, Any], request_id: str
) -> web.StreamResponse:
    if options.role == "decode":
        if state.mode == "cold" and state.cold:
            state.cold = False
            await asyncio.sleep(1)
        got = await has_kv(document, request_id)
        state.sources["external_kv_transfer" if got else "local_compute"] += tokens(document)
        params = None
    else:
        if state.mode == "crawl":
            for _ in range(30):
                await asyncio.sleep(0.1)
                state.steps += 1
        state.sources["local_compute"] += tokens(document)
        params = give_kv(document, request_id)
    if document.get("stream"):
        return await stream(request)
    if state.mode == "die":
        abort(request)
    limit = document.get("max_completion_tokens", document.get("max_tokens", TOKENS))
    if state.mode == "slow":
        await asyncio.sleep(0.05 * min(limit, TOKENS))
    state.steps += 1
    found = {
        "choices": [{"index": 0, "text": " ".join(map(str, range(min(limit, TOKENS))))}],
        "port": options.port,
    }
    return web.json_response({**found, "kv_transfer_params": params})


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    if state.mode == "empty":
        return response
    for n in range(TOKENS):
        if n == TOKENS // 2 and state.mode == "die":
            abort(request)
        if n == TOKENS // 2 and state.mode == "stuck":
            await asyncio.Event().wait()
        filler = "x" * (1 << 20) if state.mode == "flood" else ""
        await response.write(f"data: {n}{filler}\n\n".encode())
        state.steps += 1
        if state.mode == "slow":
            await asyncio.sleep(0.05)
    await response.write(f"data: {options.port}\n\ndata: [DONE]\n\n".encode())
    return response


def abort(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


async def health(request: web.Request) -> web.Response:
    return web.Response(status=503 if state.mode == "ill" else 200)


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "tiny", "object": "model"}]})


async def tokenize(request: web.Request) -> web.Response:
    return web.json_response({"count": tokens(await request.json())})


async def metrics(request: web.Request) -> web.Response:
    lines = [
        f'vllm:prompt_tokens_by_source_total{{source="{source}"}} {count}'
        for source, count in state.sources.items()
    ]
    lines.append(f"vllm:iteration_tokens_total_count {state.steps}")
    return web.Response(text="\n".join(lines) + "\n")


async def set_mode(request: web.Request) -> web.Response:
    state.become((await request.json())["mode"])
    return web.Response()


async def tell(request: web.Request) -> web.Response:
    """What a test wants to know; the real one tells nothing of the kind."""
    return web.json_response(
        {
            "seen": state.seen,
            "sources": state.sources,
            "running": state.running,
            "aborted": state.aborted,
        }
    )


async def query(request: web.Request) -> web.Response:
    return web.json_response({"0": {"engine_id": state.engine, "worker_addr": {}}})


async def version(request: web.Request) -> web.Response:
    return web.json_response({"version": "0.32.0"})


def run(given: Options) -> None:
    """Be an engine until killed."""
    global options, state
    options, state = given, State()
    state.become(given.mode)
    asyncio.run(serve())


async def serve() -> None:
    app = web.Application(client_max_size=64 << 20)
    app.router.add_get("/health", health)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/version", version)
    app.router.add_get("/fake", tell)
    app.router.add_post("/mode", set_mode)
    app.router.add_post("/tokenize", tokenize)
    for path in ("/v1/completions", "/v1/chat/completions"):
        app.router.add_post(path, complete)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=4096).start()
    if options.bootstrap_port:
        bootstrap = web.Application()
        bootstrap.router.add_get("/query", query)
        boots = web.AppRunner(bootstrap, access_log=None)
        await boots.setup()
        await web.TCPSite(boots, "127.0.0.1", options.bootstrap_port).start()
    await asyncio.Event().wait()
