"""A router process and FAKE engines, for tests."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from tests.commands import ROOT
from tests.router.fake_engine import Options, run

# What is imported once is there in every engine at once.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.router.fake_engine"])


# Making a TLS context takes longer than a request.
CLIENT = httpx.Client(
    verify=False, timeout=30, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0)
)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def until(what: str, holds: Any, seconds: float = 15.0) -> None:
    """Wait for a condition with a limit."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class Engine:
    """A FAKE engine that runs."""

    def __init__(self, service: Service, name: str, role: str, mode: str) -> None:
        self.name, self.role = name, role
        self.port, boot = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        mooncake = service.protocol == "mooncake" and role == "prefill"
        self.kv = f"http://127.0.0.1:{boot}" if mooncake else f"127.0.0.1:{boot}"
        boots = boot if mooncake else 0
        self._options = Options(self.port, boots, service.protocol, role, service.folder, mode)
        self.start(mode)

    def start(self, mode: str = "well") -> None:
        self.process = FORKS.Process(target=run, args=(replace(self._options, mode=mode),))
        self.process.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def become(self, mode: str) -> None:
        CLIENT.post(f"{self.url}/mode", json={"mode": mode}).raise_for_status()

    def tell(self) -> dict[str, Any]:
        found: dict[str, Any] = CLIENT.get(f"{self.url}/fake").json()
        return found

    def seen(self) -> list[dict[str, Any]]:
        """Return the clients' requests that it was sent."""
        found: list[dict[str, Any]] = self.tell()["seen"]
        return found


class Service:
    """A router with its engines."""

    def __init__(self, folder: Path, protocol: str) -> None:
        self.folder = folder
        self.protocol = protocol
        self.engines: dict[str, Engine] = {}
        self.file = folder / "members.json"
        self.port, self.metrics_port, internal = free_ports(3)
        self._internal = internal
        self.url = f"http://127.0.0.1:{self.port}"

    def run(self, *options: str) -> None:
        words = [
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--metrics-port", str(self.metrics_port), "--internal-port", str(self._internal)),
            *("--members", str(self.file), "--drain-seconds", "20", "--look-seconds", "0.1"),
            *("--protocol", self.protocol, "--stall-seconds", "1", *options),
        ]
        with (self.folder / "router.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pdinfra_router", *words],
                env={**os.environ, "PYTHONPATH": str(ROOT / "images" / "vllm-router")},
                stderr=log,
            )

    def log(self) -> str:
        return (self.folder / "router.log").read_text()

    def engine(self, name: str, mode: str = "well") -> Engine:
        role = {"p": "prefill", "d": "decode", "m": "mixed"}[name[0]]
        self.engines[name] = Engine(self, name, role, mode)
        return self.engines[name]

    def name(self, *names: str) -> None:
        """Write the file of members."""
        engines = [self.engines[name] for name in names]
        rows = [{"id": e.name, "role": e.role, "url": e.url, "kv": e.kv} for e in engines]
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"members": rows}))
        new.replace(self.file)

    def up(self, *names: str) -> tuple[Engine, ...]:
        """Start engines, name them, and wait until they serve."""
        for name in names:
            self.engine(name)
        self.name(*names)
        self.wait_for(*names)
        return tuple(self.engines[name] for name in names)

    def state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = CLIENT.get(f"{self.url}/pdinfra/members").json()
        except httpx.TransportError:
            return {"active": [], "members": [], "wanted": [], "in_flight": 0}
        return found

    def active(self) -> list[str]:
        return [member["id"] for member in self.state()["active"]]

    def member(self, name: str) -> dict[str, Any]:
        found = [member for member in self.state()["members"] if member["id"] == name]
        return found[0] if found else {"state": "unknown", "reason": "", "busy": 0}

    def wait_for(self, *names: str) -> None:
        until(f"{names} serve", lambda: self.active() == list(names))

    def post(self, path: str = "/v1/completions", **fields: Any) -> httpx.Response:
        document = {"model": "tiny", "prompt": "one two three", "max_tokens": 5, **fields}
        return self.send(path, document)

    def send(self, path: str, document: dict[str, Any]) -> httpx.Response:
        return CLIENT.post(self.url + path, json=document)

    def get(self, path: str) -> httpx.Response:
        return CLIENT.get(self.url + path)

    def figure(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        text = CLIENT.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    def clear(self) -> None:
        """Let all members go, and end them."""
        self.name()
        for engine in self.engines.values():
            engine.kill()
        self.engines.clear()
        until("all are gone", lambda: not self.state()["members"])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            for engine in self.engines.values():
                engine.kill()


@contextmanager
def serving(folder: Path, protocol: str, *options: str) -> Iterator[Service]:
    service = Service(folder, protocol)
    service.run(*options)
    try:
        yield service
    finally:
        service.stop()
