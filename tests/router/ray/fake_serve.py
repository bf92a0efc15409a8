"""FAKE of Ray Serve's REST API, as far as the keeper asks it: what Ray 2.60 was seen to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATH = "/api/serve/applications/"
REPLICA = {"replica_id": "c2eu4zc1", "node_ip": "192.0.2.1", "pid": 521}


@dataclass
class FakeServe:
    """FAKE: what it has, and what it was asked, in order.

    status, message: of an application that is told to it. refuses: it answers 500 to PUT, with
    this text. raw: what it answers to GET instead. cut: it ends in the middle of an answer.
    """

    status: str = "RUNNING"
    message: str = ""
    refuses: str = ""
    raw: bytes = b""
    cut: bool = False
    states: tuple[str, ...] = ("RUNNING",)
    asked: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def document(self) -> dict[str, Any]:
        """Return what GET answers."""
        found: dict[str, Any] = {"controller_info": {}, "proxies": {}, "applications": {}}
        if self.entry:
            extra = {"root_path": "", "request_timeout_s": None}
            found |= {"proxy_location": "HeadOnly", "http_options": {**self.entry, **extra}}
        for config in self.config.get("applications", ()):
            deployment = {
                "name": "LLMServer:engine",
                "status": "HEALTHY",
                "target_num_replicas": 3,
                "replicas": [{**REPLICA, "state": state} for state in self.states],
            }
            failed = self.status == "DEPLOY_FAILED"
            found["applications"][config["name"]] = {
                "name": config["name"],
                "status": self.status,
                "message": self.message,
                "deployed_app_config": config,
                "deployments": {} if failed else {"LLMServer:engine": deployment},
            }
        return {**found, "target_capacity": None}

    def deploy(self, document: dict[str, Any]) -> None:
        """Take what it is told. Where it listens stays as it was when Serve started."""
        self.entry = self.entry or dict(document["http_options"])
        self.config = document

    def forget(self) -> None:
        """Be another cluster, or one after DELETE."""
        self.config, self.entry = {}, {}

    def deployed(self) -> int:
        """Return how often it was told what to have."""
        return self.asked.count("PUT")


@contextmanager
def serving(fake: FakeServe) -> Iterator[FakeServe]:
    """Serve the FAKE on a port of 127.0.0.1 until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.asked.append("GET")
            self._say(200, fake.raw or json.dumps(fake.document()).encode())

        def do_PUT(self) -> None:
            fake.asked.append("PUT")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if fake.refuses:
                self._say(500, fake.refuses.encode())
                return
            fake.deploy(json.loads(body))
            self._say(200, b"")

        def do_DELETE(self) -> None:
            fake.asked.append("DELETE")
            fake.forget()
            self._say(200, b"")

        def _say(self, status: int, data: bytes) -> None:
            self.send_response(status if self.path == PATH else 404)
            self.send_header("Content-Length", str(len(data) + fake.cut))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
