"""Run the router: ``python -m pdinfra_router --members FILE ... [-- vllm-router ...]``.

With a command after ``--`` requests go by way of vllm-router, else by way of pdinfra's own proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import signal
import sys
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

from pdinfra_router import front, proxy, watch
from pdinfra_router.backend import Backend
from pdinfra_router.bodies import Bodies
from pdinfra_router.figures import Figures
from pdinfra_router.handover import Pace
from pdinfra_router.policy import POLICIES
from pdinfra_router.protocols import PROTOCOLS
from pdinfra_router.routers import Slot, Slots
from pdinfra_router.vllm_router import SPOKEN, VllmRouter
from pdinfra_router.warmup import WarmUp

STOP_SECONDS = 25.0
"""For the last answers when the container is stopped; Docker kills after 30."""
BACKLOG = 4096
"""Connections that wait to be accepted; the kernel takes the less of this and somaxconn."""

STALL_SECONDS = 60.0
"""A warm engine may show no progress for 30 s (NIXL's lease after a crash, UCX's first transfer;
both measured) and compile for up to 70 s (dynamo PR 14735), and a chunk of a long prompt takes a
slow CPU a while. A late find costs some requests a wait, a wrong one all that are in hand."""
CONNECT_SECONDS = 30.0
"""Thousands of clients at once keep a well engine, or this process, from connecting for 5 s
(measured). A host that is gone is found by the watch, which ends the wait for it sooner."""
KEPT_SECONDS = 3.0
"""vLLM closes an idle connection after 5 s: nothing is sent on one that is about to go."""


def arguments(words: list[str]) -> argparse.Namespace:
    """Return the parsed command line; what stands after ``--`` starts a vllm-router."""
    parser = argparse.ArgumentParser(prog="pdinfra_router", description=__doc__)
    add = parser.add_argument
    add("--host", required=True, help="address to listen on")
    add("--port", type=int, required=True, help="port of the OpenAI API")
    add("--metrics-port", type=int, required=True, help="port of /metrics")
    add("--internal-port", type=int, help="first of 4 ports of vllm-router's, on loopback only")
    add("--members", type=Path, required=True, help="JSON file, watched")
    add("--drain-seconds", type=float, required=True, help="for a member to leave")
    add("--look-seconds", type=float, default=1.0, help="between looks at all this")
    add("--protocol", choices=sorted(PROTOCOLS), default="nixl", help="what the connector speaks")
    add("--policy", choices=sorted(POLICIES), default="round_robin", help="of pdinfra's proxy")
    add("--min-prompt-tokens", type=int, default=0, help="shorter prompts are refused")
    add(
        "--stall-seconds", type=float, default=STALL_SECONDS, help="silence that takes a member out"
    )
    add("--sick-seconds", type=float, default=30.0, help="least between handovers for sickness")
    add("--max-requests", type=int, default=4096, help="in hand; others get 503")
    add("--max-body-bytes", type=int, default=64 << 20, help="a million tokens are about 4 MB")
    add("--max-bodies-bytes", type=int, default=1 << 30, help="of all requests in hand")
    add("--body-seconds", type=float, default=60.0, help="for a client to send its body")
    add("--client-seconds", type=float, default=120.0, help="a client may take nothing for so long")
    add("--prompts-at-once", type=int, default=8, help="of one request with a list of prompts")
    add("command", nargs="*", help="vllm-router and its own options")
    options = parser.parse_args(words)
    if options.command and options.protocol not in SPOKEN:
        parser.error(f"vllm-router does not speak {options.protocol}")
    if options.command and options.internal_port is None:
        parser.error("vllm-router needs --internal-port")
    return options


def backend(options: argparse.Namespace, session: ClientSession) -> Backend:
    """Return what stands between the entry and the engines."""
    figures = Figures()
    protocol = PROTOCOLS[options.protocol]
    following = watch.Watch(
        options.members,
        session,
        WarmUp(session, protocol, options.min_prompt_tokens),
        figures,
        watch.Limits(options.stall_seconds, options.drain_seconds),
    )
    if not options.command:
        rules = proxy.Rules(POLICIES[options.policy], options.min_prompt_tokens)
        return proxy.Proxy(following, session, protocol, rules, figures)
    slots = Slots(
        [Slot(port, port + 1) for port in (options.internal_port, options.internal_port + 2)]
    )
    pace = Pace(options.drain_seconds, options.sick_seconds)
    return VllmRouter(options.command, options.protocol, slots, following, session, pace)


async def run(options: argparse.Namespace) -> int:
    """Serve until a signal comes (0) or the backend dies (1)."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    session = ClientSession(
        timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        connector=TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )
    inside = backend(options, session)
    limits = front.Limits(options.max_requests, options.prompts_at_once, options.client_seconds)
    bodies = Bodies(options.max_body_bytes, options.max_bodies_bytes, options.body_seconds)
    runners = [
        web.AppRunner(app, handler_cancellation=True, access_log=None)
        for app in front.Front(inside, limits, bodies).apps()
    ]
    async with session:
        for runner, port in zip(runners, (options.port, options.metrics_port), strict=True):
            await runner.setup()
            await web.TCPSite(runner, options.host, port, backlog=BACKLOG).start()
        watching = asyncio.create_task(inside.watch(options.look_seconds))
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        died = watching.done()
        if not died:
            watching.cancel()
            await inside.finish(STOP_SECONDS)
        for runner in runners:
            await runner.cleanup()
    inside.stop()
    if died:
        logging.error("the backend ended", exc_info=watching.exception())
    return int(died)


def main() -> None:
    """Run with the process's own arguments."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s front: %(message)s")
    # It quotes what it cannot read, and that may be a prompt; the entry logs its own faults itself.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Every request in hand holds a client's connection and at least one to the inside.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sys.exit(asyncio.run(run(arguments(sys.argv[1:]))))


if __name__ == "__main__":
    main()
