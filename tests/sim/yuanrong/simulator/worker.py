"""A stand-in for datasystem_worker: a member in a real etcd and a port, without any data behind it.

It takes the real one's words (-name=value) and fails where that fails: port taken, no etcd.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .etcd import Etcd

READY_SECONDS = 15


def run(words: Sequence[str]) -> int:
    """Serve until stopped; return the exit code."""
    given = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
    address = given["worker_address"]
    host, _, port = address.rpartition(":")
    try:
        listener = socket.create_server((host, int(port)), backlog=16)
    except OSError as error:
        print(f"SIMULATOR of datasystem_worker: {address}: {error}", file=sys.stderr)
        return 1
    etcd = Etcd(given["etcd_address"])
    seconds = max(2, int(given.get("node_timeout_s", "60")))
    lease = _join(etcd, address, seconds, time.monotonic() + READY_SECONDS)
    if lease is None:
        print("Worker service is not ready within 15 seconds", file=sys.stderr)
        return 1
    health = Path(given["health_check_path"])
    health.parent.mkdir(parents=True, exist_ok=True)
    health.write_text("health check success\n")
    listener.settimeout(min(1.0, seconds / 3))
    while True:
        with suppress(TimeoutError):
            listener.accept()[0].close()
        lease = _kept(etcd, address, seconds, lease)


def _join(etcd: Etcd, address: str, seconds: int, until: float) -> str | None:
    """Register under a lease; None if etcd does not answer in time."""
    while time.monotonic() < until:
        try:
            lease = etcd.lease(seconds)
            etcd.put(f"/datasystem/cluster/{address}", f"{time.time_ns()};ready", lease)
        except OSError:
            time.sleep(0.2)
        else:
            return lease
    return None


def _kept(etcd: Etcd, address: str, seconds: int, lease: str | None) -> str | None:
    """Renew the lease; register again where it is lost."""
    try:
        if lease and etcd.keep(lease):
            return lease
    except OSError:
        return lease
    return _join(etcd, address, seconds, time.monotonic() + 1)
