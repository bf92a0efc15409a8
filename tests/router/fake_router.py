"""FAKE vllm-router: answers with the names of its members. Not the real thing.

``/slow`` streams for four seconds, ``/break`` breaks off in the middle of an answer.
"""

from __future__ import annotations

import argparse
import asyncio

from aiohttp import web

parser = argparse.ArgumentParser()
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--prometheus-host")
parser.add_argument("--prometheus-port", type=int)
parser.add_argument("--vllm-pd-disaggregation", action="store_true")
parser.add_argument("--prefill", action="append", default=[])
parser.add_argument("--decode", action="append", default=[])
parser.add_argument("--worker-urls", nargs="*", default=[])
options = parser.parse_args()
members = "+".join(options.prefill + options.decode + options.worker_urls)


async def say(request: web.Request) -> web.Response:
    body = await request.text()
    return web.Response(text=f"{request.method} {request.raw_path} {members} {body}")


async def slow(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for n in range(20):
        await response.write(f"{n} ".encode())
        await asyncio.sleep(0.2)
    await response.write(members.encode())
    return response


async def break_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half an answer")
    assert request.transport is not None
    request.transport.abort()
    return response


async def main() -> None:
    app = web.Application()
    app.router.add_get("/slow", slow)
    app.router.add_get("/break", break_off)
    app.router.add_route("*", "/{path:.*}", say)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, options.host, options.port).start()
    await web.TCPSite(runner, options.prometheus_host, options.prometheus_port).start()
    await asyncio.Event().wait()


asyncio.run(main())
