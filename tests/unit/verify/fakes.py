"""FAKES: HTTP servers in this process that play vLLM engines and the router. Not the real thing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pdinfra.model.plan import Plan

Answer = tuple[int, object]
PROMPT_TOKENS = 42


@dataclass
class FakeServer:
    """FAKE engine or router: answers completions with ``answer``, counts tokens from outside."""

    answer: Callable[[dict[str, Any]], Answer]
    counts: bool = True
    metrics: str | None = None
    max_model_len: int = 32768
    external: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)

    def complete(self, body: dict[str, Any]) -> Answer:
        self.seen.append(body)
        params = body.get("kv_transfer_params") or {}
        if params.get("do_remote_prefill") and self.counts:
            self.external += PROMPT_TOKENS - 1
        return self.answer(body)

    def prometheus(self) -> str:
        if self.metrics is not None:
            return self.metrics
        name = "vllm:prompt_tokens_by_source"
        return (
            f"# TYPE {name}_total counter\n"
            f'{name}_total{{engine="0",source="external_kv_transfer"}} {self.external}\n'
        )


def text(words: str, **more: Any) -> dict[str, Any]:
    """Return a completion as vLLM gives it."""
    return {
        "choices": [{"index": 0, "text": words}],
        "usage": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 8},
        **more,
    }


def prefill(body: dict[str, Any]) -> Answer:
    """FAKE prefill: hands over where its KV is, if it is asked to."""
    params = body.get("kv_transfer_params") or {}
    if not params.get("do_remote_decode"):
        return 200, text("x", kv_transfer_params=None)
    return 200, text(
        "x", kv_transfer_params={"do_remote_prefill": True, "remote_block_ids": [1, 2]}
    )


def speak(body: dict[str, Any]) -> Answer:
    """FAKE decode, mixed engine or router that answers as it should."""
    return 200, text(" qubits")


@contextmanager
def serving(*servers: FakeServer) -> Iterator[list[int]]:
    """Serve FAKES on ports of 127.0.0.1 until the end of the block."""
    with ExitStack() as stack:
        yield [stack.enter_context(_one(server)) for server in servers]


@contextmanager
def _one(fake: FakeServer) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/v1/models":
                models = {"data": [{"id": "m", "max_model_len": fake.max_model_len}]}
                self._send(200, json.dumps(models).encode())
                return
            self._send(200, fake.prometheus().encode())

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            status, answer = fake.complete(json.loads(self.rfile.read(size)))
            self._send(status, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def moved(plan: Plan, ports: list[int]) -> Plan:
    """Return the plan with its instances, then its router, on these ports of 127.0.0.1."""
    *instances, router = (f"http://127.0.0.1:{port}" for port in ports)
    return plan.model_copy(
        update={
            "instances": tuple(
                instance.model_copy(update={"url": url})
                for instance, url in zip(plan.instances, instances, strict=True)
            ),
            "router": plan.router.model_copy(update={"url": router}),
        }
    )
