"""Run the front: ``python -m pdinfra_router --members FILE ... -- vllm-router ...``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from pdinfra_router.front import Front
from pdinfra_router.handover import Handover
from pdinfra_router.routers import Slot, Slots

STOP_SECONDS = 25.0
"""For the last answers when the container is stopped; Docker kills after 30."""


def arguments(words: list[str]) -> argparse.Namespace:
    """Return the parsed command line; what stands after ``--`` starts a vllm-router."""
    parser = argparse.ArgumentParser(prog="pdinfra_router", description=__doc__)
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port of the OpenAI API")
    parser.add_argument("--metrics-port", type=int, required=True, help="port of /metrics")
    parser.add_argument(
        "--internal-port", type=int, required=True, help="first of 4 ports, on loopback only"
    )
    parser.add_argument("--members", type=Path, required=True, help="JSON file, watched")
    parser.add_argument("--drain-seconds", type=float, required=True, help="for a member to leave")
    parser.add_argument("--look-seconds", type=float, default=1.0, help="between looks at all this")
    parser.add_argument("command", nargs="+", help="vllm-router and its own options")
    return parser.parse_args(words)


async def run(options: argparse.Namespace) -> int:
    """Serve until a signal comes (0) or the active router dies (1)."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    session = ClientSession(
        timeout=ClientTimeout(total=None, sock_connect=5),
        connector=TCPConnector(limit=0),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )
    slots = Slots(
        [Slot(port, port + 1) for port in (options.internal_port, options.internal_port + 2)]
    )
    handover = Handover(options.members, options.command, slots, session, options.drain_seconds)
    front = Front(handover, session)
    runners = [
        web.AppRunner(app, handler_cancellation=True, access_log=None) for app in front.apps()
    ]
    async with session:
        for runner, port in zip(runners, (options.port, options.metrics_port), strict=True):
            await runner.setup()
            await web.TCPSite(runner, options.host, port).start()
        watching = asyncio.create_task(handover.watch(options.look_seconds))
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        died = watching.done()
        if not died:
            watching.cancel()
            await handover.finish(STOP_SECONDS)
        for runner in runners:
            await runner.cleanup()
    slots.stop()
    if died:
        logging.error("%s", watching.exception() or "the watch ended")
    return int(died)


def main() -> None:
    """Run with the process's own arguments."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s front: %(message)s")
    sys.exit(asyncio.run(run(arguments(sys.argv[1:]))))


if __name__ == "__main__":
    main()
