"""The simulated function system: it answers health checks, counts agents, and schedules nothing.

Agents are counted from leases in the real etcd: one that does not reach its function_master is as
healthy as any, and not counted.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .etcd import Etcd

PARTS = ("function_master", "function_proxy", "function_agent")
AGENTS = "/pdinfra-sim/agents/"
COUNT = "/yr/readyAgentCount"
"""Where the real function_master leaves the number, and `yr status` of 0.5.0 reads it."""
LEASE_SECONDS = 3


def run(part: str, words: Sequence[str]) -> int:
    """Serve until stopped."""
    given = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
    server = _Server(given["address"], given)
    target = {"function_master": _count, "function_agent": _register}.get(part)
    if target is not None:
        threading.Thread(target=target, args=(given, server), daemon=True).start()
    server.serve_forever()
    return 0


class _Server(ThreadingHTTPServer):
    """One component's HTTP interface."""

    allow_reuse_address = True

    def __init__(self, address: str, given: dict[str, str]) -> None:
        """Bind. Raises OSError when the port is taken."""
        host, _, port = address.rpartition(":")
        self.given = given
        self.agents: list[str] = []
        super().__init__((host, int(port)), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Answers as far as `yr` asks."""

    server: _Server

    def do_GET(self) -> None:
        """Answer one question."""
        name = self.path.rpartition("/")[2]
        members = [{"address": agent, "name": f"node-{agent}"} for agent in self.server.agents]
        answers: dict[str, str] = {
            "healthy": "",
            "queryagentcount": str(len(members)),
            "resources": json.dumps({"resource": {}}),
            "masterinfo": json.dumps(
                {
                    "master_address": self.server.given["address"],
                    "meta_store_address": self.server.given.get("etcd_address", ""),
                    "schedule_topo": {"members": members},
                }
            ),
        }
        body = answers.get(name)
        self.send_response(404 if body is None else 200)
        data = (body or "").encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        """Say nothing of each request."""


def _count(given: dict[str, str], server: _Server) -> None:
    """Count the agents, and write the number where `yr status` of 0.5.0 reads it."""
    etcd = Etcd(given["etcd_address"])
    while True:
        try:
            server.agents = sorted(key.removeprefix(AGENTS) for key in etcd.get(AGENTS))
            etcd.put(COUNT, str(len(server.agents)))
        except OSError:
            pass
        time.sleep(0.3)


def _register(given: dict[str, str], server: _Server) -> None:
    """Be counted as long as the master's function_master is in reach."""
    etcd = Etcd(given["etcd_address"])
    lease = None
    while True:
        try:
            host, _, port = given["master"].rpartition(":")
            socket.create_connection((host, int(port)), timeout=1).close()
            if lease is None or not etcd.keep(lease):
                lease = etcd.lease(LEASE_SECONDS)
                etcd.put(f"{AGENTS}{given['address']}", "ready", lease)
        except OSError:
            lease = None
        time.sleep(0.5)
