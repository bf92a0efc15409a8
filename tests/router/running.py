"""A front before the fake vllm-router, as a process of its own, with fake engines."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.commands import ROOT, wait_until

FAKE = Path(__file__).with_name("fake_router.py")
SICK: set[int] = set()
"""Ports of engines whose /health is 503."""
DUMB: set[int] = set()
"""Ports of engines that answer /health and do nothing."""
ASKED: dict[int, int] = {}
"""Completions by port."""


class Engine(BaseHTTPRequestHandler):
    """FAKE engine: well, and warm at once."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        port = self.server.server_port
        if self.path == "/health":
            self.say(503 if port in SICK else 200, {})
        else:
            self.say(200, {"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        port = self.server.server_port
        ASKED[port] = ASKED.get(port, 0) + 1
        if port in DUMB:
            threading.Event().wait(60)
        choice = {"index": 0, "text": "word", "finish_reason": "length"}
        self.say(200, {"choices": [choice], "kv_transfer_params": {"remote_port": 1}})

    def say(self, status: int, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a front that ended its connections."""


@dataclass
class Running:
    """A running front with what a test needs to drive it."""

    process: subprocess.Popen[bytes]
    url: str
    metrics_url: str
    file: Path
    log: Path
    stack: ExitStack

    def write(self, *members: tuple[str, str, str]) -> None:
        rows = [{"id": name, "role": role, "url": url} for name, role, url in members]
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"members": rows}))
        new.replace(self.file)

    def engine(self, port: int = 0) -> str:
        server = Server(("127.0.0.1", port), Engine)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.stack.callback(server.server_close)
        self.stack.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def pair(self) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        members = ("p0", "prefill", self.engine()), ("d0", "decode", self.engine())
        self.write(*members)
        self.wait_for("p0", "d0")
        return members

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/pdinfra/members").json()
        return found

    def active(self) -> list[str]:
        return [member["id"] for member in self.state()["active"]]

    def wait_for(self, *names: str) -> None:
        wait_until(f"members are {names}", 20, lambda: self.active() == list(names))

    def ask(self, prompt: object, **more: Any) -> httpx.Response:
        return self.post({"model": "tiny", "prompt": prompt, **more})

    def post(self, body: object, path: str = "/v1/completions", **more: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=20, **more)

    def counts(self) -> dict[str, float]:
        """Return the metrics without labels, and those with, by their whole name."""
        lines = httpx.get(f"{self.metrics_url}/metrics").text.splitlines()
        rows = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in rows}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def free_row(count: int) -> int:
    """Return the first of free ports in a row; at random, for other runs of tests look too."""
    while True:
        first = random.randrange(21000, 29000, count)
        if is_free(*range(first, first + count)):
            return first


def is_free(*ports: int) -> bool:
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return True


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Running]:
    """Run a front whose vllm-router is the fake one."""
    port, metrics = free_ports(2)
    internal = free_row(4)
    file, log = folder / "members.json", folder / "front.log"
    words = [
        *("--host", "127.0.0.1", "--port", str(port), "--metrics-port", str(metrics)),
        *("--internal-port", str(internal), "--members", str(file), "--drain-seconds", "20"),
        *("--look-seconds", "0.1", *options),
        *("--", sys.executable, str(FAKE)),
    ]
    with ExitStack() as stack:
        process = subprocess.Popen(
            [sys.executable, "-m", "pdinfra_router", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT / "images" / "vllm-router")},
            stderr=stack.enter_context(log.open("wb")),
        )
        service = Running(
            process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics}", file, log, stack
        )
        wait_until("the front listens", 20, lambda: not is_free(port))
        yield service
        process.send_signal(signal.SIGTERM)
        process.wait(30)
