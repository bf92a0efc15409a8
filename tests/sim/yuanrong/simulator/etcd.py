"""A small client of a real etcd, over its JSON gateway."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any


class Etcd:
    """One endpoint, ip:port. Every method raises OSError when it does not answer."""

    def __init__(self, endpoint: str) -> None:
        """Take the address; nothing is sent yet."""
        self.url = f"http://{endpoint}/v3"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def put(self, key: str, value: str, lease: str = "0") -> None:
        """Write a key, under a lease if there is one."""
        self._ask("kv/put", {"key": _encoded(key), "value": _encoded(value), "lease": lease})

    def get(self, prefix: str) -> dict[str, str]:
        """Return all keys with a prefix."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        said = self._ask("kv/range", {"key": _encoded(prefix), "range_end": _encoded(end)})
        return {_decoded(row["key"]): _decoded(row["value"]) for row in said.get("kvs", [])}

    def lease(self, seconds: int) -> str:
        """Make a lease."""
        return str(self._ask("lease/grant", {"TTL": seconds})["ID"])

    def keep(self, lease: str) -> bool:
        """Renew a lease; tell whether it still was one."""
        said = self._ask("lease/keepalive", {"ID": lease})
        return int(said.get("result", {}).get("TTL", 0)) > 0

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request."""
        request = urllib.request.Request(
            f"{self.url}/{path}", data=json.dumps(body).encode(), method="POST"
        )
        with self.opener.open(request, timeout=2) as answer:
            said: dict[str, Any] = json.loads(answer.read())
        return said


def _encoded(text: str) -> str:
    """Return a text as the gateway takes it."""
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    """Return a text as the gateway gives it."""
    return base64.b64decode(text).decode()
