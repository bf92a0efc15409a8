"""Measure what each router costs before engines that answer at once, and print it as ratios.

Run from the repository, best on a quiet machine:

    .venv/bin/python -m benchmarks.router --vllm-router PATH

Engines are FAKE (benchmarks/fake_engine.py); all else is what a user runs. In every round each
target is asked by one client (added latency) and by several (requests per second); what is printed
is the median of the rounds, so that what else the machine does hits all alike. A request through a
router is two at the engines, which share the machine's cores with it.

Others can stand beside: ``--also NAME=COMMAND``, with ``{port}``, ``{prefill}`` and ``{decode}``
(ports) in the command, for example vLLM's own examples:

    --also 'toy=python toy_proxy_server.py --port {port} --prefiller-ports {prefill}
            --prefiller-hosts 127.0.0.1 --decoder-hosts 127.0.0.1 --decoder-ports {decode}'
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

from benchmarks.fake_engine import length

ROOT = Path(__file__).resolve().parent.parent
BODY = json.dumps({"model": "fake", "prompt": "word " * 64, "max_tokens": 1}).encode()
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
REQUEST = f"{HEAD}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
START_SECONDS = 60.0
DIRECT = "engine alone"
PROTOCOLS = ("nixl", "sequential")
ROUTER = (
    *("--policy", "round_robin", "--intra-node-data-parallel-size", "1"),
    *("--worker-startup-check-interval", "1", "--health-check-interval-secs", "5"),
)
"""As pdinfra starts it (stacks/base.py)."""
PORTS = iter(range(31000, 60000))


@dataclass(frozen=True)
class Figures:
    """One target's; latencies in milliseconds, of requests that came one after the other."""

    name: str
    median_ms: float
    p99_ms: float
    per_second: float


@dataclass(frozen=True)
class Target:
    """A name, and the port that answers."""

    name: str
    port: int


def main() -> None:
    """Start everything, measure in rounds, print a table or JSON."""
    options = arguments()
    with ExitStack() as stack:
        targets = start(stack, options)
        rounds = [
            [asyncio.run(measure(target, options)) for target in targets]
            for _ in range(options.rounds)
        ]
    figures = [middle(list(each)) for each in zip(*rounds, strict=True)]
    if options.json:
        print(json.dumps([row(each, figures[0]) for each in figures], indent=2))
        return
    table(figures)


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vllm-router", help="vllm-router 0.1.17; without it, neither way of it")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each half of a round")
    parser.add_argument("--clients", type=int, default=16, help="at once, for requests per second")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def start(stack: ExitStack, options: argparse.Namespace) -> list[Target]:
    """Start the engines and all routers; return what can be asked, the engine first."""
    prefill, decode = free(1), free(1)
    for port in (prefill, decode):
        launch(stack, [sys.executable, "-m", "benchmarks.fake_engine", str(port)])
    ours = Ours(stack, prefill, decode)
    commands = {f"pdinfra's proxy, {p}": ours.command("--protocol", p) for p in PROTOCOLS}
    if options.vllm_router:
        alone = [
            *(options.vllm_router, *ROUTER, "--host", "127.0.0.1", "--port", "{port}"),
            *("--prometheus-port", "{metrics}", "--vllm-pd-disaggregation"),
            *("--prefill", f"http://127.0.0.1:{prefill}"),
            *("--decode", f"http://127.0.0.1:{decode}"),
        ]
        behind = ours.command("--internal-port", "{internal}", "--", options.vllm_router, *ROUTER)
        commands = {"vllm-router alone": alone, "vllm-router, entry": behind, **commands}
    for also in options.also:
        name, _, command = also.partition("=")
        commands[name] = shlex.split(command)
    targets = [Target(DIRECT, decode)]
    for name, command in commands.items():
        ports = {"prefill": prefill, "decode": decode, "port": free(1), "metrics": free(1)}
        ports["internal"] = free(4)
        launch(stack, [word.format(**ports) for word in command])
        targets.append(Target(name, ports["port"]))
    for target in targets:
        ready(target)
    return targets


class Ours:
    """pdinfra's router before these engines."""

    def __init__(self, stack: ExitStack, prefill: int, decode: int) -> None:
        """Name the members."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = {"prefill": prefill, "decode": decode}
        rows = [
            {"id": role, "role": role, "url": f"http://127.0.0.1:{port}"}
            for role, port in ports.items()
        ]
        self._members = folder / "members.json"
        self._members.write_text(json.dumps({"members": rows}))

    def command(self, *more: str) -> list[str]:
        """Return its command line."""
        return [
            *(sys.executable, "-m", "pdinfra_router", "--host", "127.0.0.1", "--port", "{port}"),
            *("--metrics-port", "{metrics}", "--members", str(self._members)),
            *("--drain-seconds", "1", *more),
        ]


def launch(stack: ExitStack, command: list[str]) -> None:
    """Run a command until the end; its output is nobody's, as a container's is the log driver's."""
    paths = [str(ROOT), str(ROOT / "images" / "vllm-router")]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)


def free(count: int) -> int:
    """Return the first of so many ports in a row that nobody has, each time others."""
    while True:
        first = next(PORTS)
        for _ in range(count - 1):
            next(PORTS)
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    probe = stack.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return first


def ready(target: Target) -> None:
    """Wait until a target answers a completion."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            asyncio.run(ask(target.port, time.perf_counter(), 1))
        except (OSError, ValueError, asyncio.IncompleteReadError):
            time.sleep(0.2)
            continue
        return
    raise SystemExit(f"{target.name} does not answer after {START_SECONDS:.0f} s")


async def measure(target: Target, options: argparse.Namespace) -> Figures:
    """Ask for twice so many seconds: by one client, then by several."""
    taken = await ask(target.port, time.perf_counter() + options.seconds)
    began = time.perf_counter()
    until = began + options.seconds
    many = await asyncio.gather(*(ask(target.port, until) for _ in range(options.clients)))
    per_second = sum(map(len, many)) / (time.perf_counter() - began)
    return Figures(
        target.name, median(taken) * 1000, quantiles(taken, n=100)[98] * 1000, per_second
    )


async def ask(port: int, until: float, least: int = 2) -> list[float]:
    """Ask one after the other over one connection; return the seconds that each took.

    Raises OSError, IncompleteReadError, and ValueError for an answer that is not 200.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken: list[float] = []
    try:
        while len(taken) < least or time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise ValueError(head[:60])
            if b"chunked" in head:
                await reader.readuntil(b"0\r\n\r\n")
            else:
                await reader.readexactly(length(head))
            taken.append(time.perf_counter() - began)
    finally:
        writer.close()
    return taken


def middle(rounds: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return Figures(
        rounds[0].name,
        median(each.median_ms for each in rounds),
        median(each.p99_ms for each in rounds),
        median(each.per_second for each in rounds),
    )


def row(figures: Figures, direct: Figures) -> dict[str, object]:
    """Return a target's figures with what it adds to the engine's."""
    return {
        **asdict(figures),
        "added_median_ms": figures.median_ms - direct.median_ms,
        "added_p99_ms": figures.p99_ms - direct.p99_ms,
        "per_second_ratio": figures.per_second / direct.per_second,
    }


def table(figures: list[Figures]) -> None:
    """Print all targets beside the engine alone."""
    print("| target | median ms | P99 ms | added median | added P99 | requests/s | ÷ engine |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    direct = figures[0]
    for each in figures:
        print(
            f"| {each.name} | {each.median_ms:.2f} | {each.p99_ms:.2f} "
            f"| {each.median_ms - direct.median_ms:.2f} | {each.p99_ms - direct.p99_ms:.2f} "
            f"| {each.per_second:.0f} | {each.per_second / direct.per_second:.3f} |"
        )


if __name__ == "__main__":
    main()
