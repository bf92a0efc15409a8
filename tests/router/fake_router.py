"""FAKE vllm-router: answers with the names of its members. Not the real thing.

A prompt's first word says what happens, as vllm-router 0.1.17 was seen to do it: ``until PATH``
streams until there is such a file, ``break`` breaks off, ``endless`` ends a stream without its last
event, ``empty`` answers with nothing, ``away`` is its 500 while decode is down, ``crash`` prefill's
own 500, ``riddle`` its 422, ``long`` and ``fault`` an engine's 400 and 500, ``big`` streams 64 MB,
``hang`` answers nothing before its client leaves, ``addressed`` is an error that tells where an
engine is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web

parser = argparse.ArgumentParser()
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--prometheus-host")
parser.add_argument("--prometheus-port", type=int)
parser.add_argument("--vllm-pd-disaggregation", action="store_true")
parser.add_argument("--kv-connector")
parser.add_argument("--prefill", action="append", nargs="+", default=[])
parser.add_argument("--decode", action="append", default=[])
parser.add_argument("--worker-urls", nargs="*", default=[])
options = parser.parse_args()
members = "+".join([each[0] for each in options.prefill] + options.decode + options.worker_urls)
INSIDE = "http://10.1.2.3:8200/v1/completions"
PLAIN = {
    "away": (
        500,
        f"Transparent proxy request failed: Network error: Decode request failed to {INSIDE}: "
        f"error sending request for url ({INSIDE}) caused by: client error (Connect)",
    ),
    "crash": (500, f"Network error: Prefill server {INSIDE} returned 500 Internal Server Error: x"),
    "riddle": (422, "Failed to deserialize the JSON body into the target type: missing field"),
}
OWN = {
    "long": (
        400,
        {"message": "too long", "type": "BadRequestError", "param": "input_tokens", "code": 400},
    ),
    "fault": (500, {"message": f"boom at {INSIDE}", "type": "InternalServerError", "code": 500}),
    "addressed": (404, {"message": f"no model at {INSIDE}", "type": "NotFoundError", "code": 404}),
}
counts = {"asked": 0, "now": 0, "most": 0, "left": 0}


async def complete(request: web.Request) -> web.StreamResponse:
    counts["asked"] += 1
    counts["now"] += 1
    counts["most"] = max(counts["most"], counts["now"])
    try:
        return await answer(request)
    except asyncio.CancelledError:
        counts["left"] += 1
        raise
    finally:
        counts["now"] -= 1


async def answer(request: web.Request) -> web.StreamResponse:
    body: dict[str, Any] = json.loads(await request.text())
    prompt = body.get("prompt") or body["messages"][-1]["content"]
    words = prompt.split() if isinstance(prompt, str) else [f"ids{prompt}"]
    if words[0] in PLAIN:
        status, text = PLAIN[words[0]]
        return web.Response(status=status, text=text)
    if words[0] in OWN:
        status, error = OWN[words[0]]
        return web.json_response({"error": error}, status=status)
    if words[0] == "empty":
        return web.Response(text="")
    if words[0] == "hang":
        await asyncio.Event().wait()
    # So that requests of one client overlap.
    await asyncio.sleep(0.01)
    if body.get("stream") or words[0] in ("until", "break", "big"):
        return await stream(request, body, words)
    return web.json_response(document(body, " ".join(words)))


def document(body: dict[str, Any], text: str) -> dict[str, Any]:
    number = body.get("n") or 1
    choices = [
        {"index": n, "text": f"{text} #{n} of {members}", "finish_reason": "length"}
        for n in range(number)
    ]
    usage = {"prompt_tokens": len(text), "completion_tokens": 2 * number}
    usage["total_tokens"] = sum(usage.values())
    head = {"id": f"cmpl-{text}", "object": "text_completion", "created": 7, "model": body["model"]}
    return {**head, "choices": choices, "usage": usage}


async def stream(
    request: web.Request, body: dict[str, Any], words: list[str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    whole = document(body, " ".join(words))
    head = {name: whole[name] for name in ("id", "object", "created", "model")}

    async def say(chunk: dict[str, Any]) -> None:
        await response.write(f"data: {json.dumps({**head, **chunk})}\n\n".encode())

    if words[0] == "until":
        while not Path(words[1]).exists():
            await say({"choices": [{"index": 0, "text": "not yet "}]})
            await asyncio.sleep(0.05)
    if words[0] == "big":
        for _ in range(1024):
            await say({"choices": [{"index": 0, "text": "x" * (64 << 10)}]})
    for choice in whole["choices"]:
        await say({"choices": [choice]})
    if words[0] == "break":
        assert request.transport is not None
        request.transport.abort()
        return response
    if (body.get("stream_options") or {}).get("include_usage"):
        await say({"choices": [], "usage": whole["usage"]})
    if words[0] != "endless":
        await response.write(b"data: [DONE]\n\n")
    return response


async def say(request: web.Request) -> web.Response:
    body = await request.text()
    return web.Response(text=f"{request.method} {request.raw_path} {members} {body}")


async def metrics(request: web.Request) -> web.Response:
    lines = [f"vllm_router_{name} {count}\n" for name, count in counts.items()]
    return web.Response(text="".join(lines))


async def main() -> None:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/completions", complete)
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/metrics", metrics)
    app.router.add_route("*", "/{path:.*}", say)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, options.host, options.port, backlog=4096).start()
    await web.TCPSite(runner, options.prometheus_host, options.prometheus_port).start()
    await asyncio.Event().wait()


asyncio.run(main())
