"""Ray Serve's REST API, as far as it is needed. Source: Ray 2.60, docs serve/api, REST API V2."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

SECONDS = 60.0
"""Serve checks an application before it answers, and imports vLLM for it the first time."""


class ServeError(Exception):
    """The dashboard does not answer, or refuses what it is told: one line."""


class Serve:
    """One cluster's Serve, by the URL of its dashboard."""

    def __init__(self, dashboard: str) -> None:
        """Remember where to ask: what is on this host is asked without a proxy."""
        self.url = f"{dashboard}/api/serve/applications/"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def found(self, seconds: float = SECONDS) -> dict[str, Any]:
        """Return everything that is on it. Raises ServeError."""
        answer = self._ask("GET", None, seconds)
        try:
            document = json.loads(answer)
        except ValueError as error:
            raise ServeError(f"{self.url} answers no JSON") from error
        if not isinstance(document, dict):
            raise ServeError(f"{self.url} answers no JSON object")
        return document

    def deploy(self, document: dict[str, Any]) -> None:
        """Say what it is to have from now on. Raises ServeError."""
        self._ask("PUT", json.dumps(document).encode(), SECONDS)

    def clear(self) -> None:
        """Take everything away, the entry too. Raises ServeError."""
        self._ask("DELETE", None, SECONDS)

    def _ask(self, method: str, body: bytes | None, seconds: float) -> bytes:
        """Return the answer. Raises ServeError."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url, body, headers, method=method)
        try:
            with self._open(request, timeout=seconds) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace").strip()
            last = said.splitlines()[-1][:500] if said else ""
            raise ServeError(f"{method} {self.url}: {error.code} {last}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ServeError(f"{method} {self.url}: {error}") from error
