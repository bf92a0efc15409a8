"""Talking to engines and the router as a client does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx

from pdinfra.verify.counters import External, external, prefix_caching, prompt_tokens

T = TypeVar("T")

TIMEOUT = httpx.Timeout(120, connect=5)
"""Seconds; the first request of a pair sets up its connection and may take a while."""

REMOTE_DECODE = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
"""What a NIXL router asks of prefill (vLLM tests/v1/kv_connector/nixl_integration)."""


class EngineError(Exception):
    """An engine or the router did not answer as it should; the text says which and how."""


class NoAnswerError(EngineError):
    """Nobody answered at all."""


class Client:
    """HTTP to the service's members. Close it when done (it is a context manager)."""

    def __init__(self) -> None:
        """Open no connection yet; proxies of the environment are not for the hosts' own network."""
        self._http = httpx.Client(timeout=TIMEOUT, trust_env=False)

    def __enter__(self) -> Client:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close all connections."""
        self._http.close()

    def complete(
        self, url: str, body: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """POST /v1/completions; return the answer. Raises EngineError."""
        return self._answer("POST", f"{url}/v1/completions", body, headers)

    def document(self, url: str) -> dict[str, Any]:
        """GET a JSON object. Raises EngineError."""
        return self._answer("GET", url)

    def sources(self, url: str) -> dict[str, int]:
        """Return an engine's prompt tokens by source. Raises EngineError."""
        return self.metrics(url, prompt_tokens)

    def external(self, url: str) -> External | None:
        """Return an engine's prompt tokens from outside, None if uncounted. Raises EngineError."""
        return self.metrics(url, external)

    def prefix_caching(self, url: str) -> bool | None:
        """Tell whether an engine's own prefix cache is on, None if unknown. Raises EngineError."""
        return self.metrics(url, prefix_caching)

    def tokens(self, url: str, body: dict[str, Any]) -> int:
        """Return how many tokens an engine makes of a prompt or of messages. Raises EngineError.

        Source: POST /tokenize, vLLM 0.32 (measured).
        """
        count = self._answer("POST", f"{url}/tokenize", body).get("count")
        if not isinstance(count, int):
            raise EngineError(f"{url}/tokenize answered without a count")
        return count

    def max_model_len(self, url: str) -> int | None:
        """Return how many tokens a request may have, None if unknown. Raises EngineError."""
        models = self._answer("GET", f"{url}/v1/models").get("data") or [{}]
        length = models[0].get("max_model_len")
        return length if isinstance(length, int) else None

    def metrics(self, url: str, read: Callable[[str], T]) -> T:
        """Return what there is to read in the Prometheus text of a URL. Raises EngineError."""
        text = self._text("GET", f"{url}/metrics").text
        try:
            return read(text)
        except ValueError as error:
            raise EngineError(f"{url}/metrics answered something that is no metrics") from error

    def healthy(
        self, url: str, seconds: float = 2.0, *, method: str = "GET", path_known: bool = True
    ) -> bool:
        """Tell whether /health answers 200 within so many seconds.

        path_known: without it any answer is good that is no server's fault.
        """
        try:
            answer = self._http.request(method, f"{url}/health", timeout=seconds)
            if not path_known:
                return not answer.is_server_error
            return answer.status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _answer(
        self,
        method: str,
        url: str,
        body: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return a JSON object answered with 200."""
        try:
            answer = self._text(method, url, body, headers).json()
        except ValueError as error:
            raise EngineError(f"{url} answered something that is not JSON") from error
        if not isinstance(answer, dict):
            raise EngineError(f"{url} answered JSON that is not an object")
        return answer

    def _text(
        self,
        method: str,
        url: str,
        body: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Return an answer of status 200."""
        try:
            response = self._http.request(method, url, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise NoAnswerError(f"{url}: {error or type(error).__name__}") from error
        if response.status_code != httpx.codes.OK:
            raise EngineError(f"{url} answered {response.status_code}: {response.text[:200]}")
        return response
