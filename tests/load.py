"""A load of requests on this machine's own service; every answer is looked at."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx


@dataclass
class Load:
    """Requests from so many threads, streamed and not, until the end of the block.

    ``failed`` says what was wrong with each answer that was not 200 with a whole, non-empty text.
    ``pause``: seconds between the requests of one thread, to leave the engines' cores some time.
    """

    url: str
    model: str
    threads: int = 2
    tokens: int = 4
    pause: float = 4.0
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start."""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._running = [
            threading.Thread(target=self._ask, args=(n % 2 == 1,)) for n in range(self.threads)
        ]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, after the requests that are being answered."""
        self._stop.set()
        for thread in self._running:
            thread.join()

    def _ask(self, stream: bool) -> None:
        with httpx.Client(timeout=180, trust_env=False) as client:
            while not self._stop.is_set():
                wrong = self._stream(client) if stream else self._complete(client)
                with self._lock:
                    self.answered += wrong is None
                    self.failed += [wrong] if wrong else []
                self._stop.wait(self.pause)

    def _body(self) -> dict[str, object]:
        prompt = f"{uuid.uuid4()} 介绍一下量子计算"
        return {"model": self.model, "prompt": prompt, "max_tokens": self.tokens, "temperature": 0}

    def _complete(self, client: httpx.Client) -> str | None:
        try:
            answer = client.post(f"{self.url}/v1/completions", json=self._body())
            if answer.status_code != 200:
                return f"{answer.status_code} {answer.text[:200]}"
            return None if answer.json()["choices"][0]["text"] else "200 with an empty text"
        except (httpx.HTTPError, ValueError, LookupError) as error:
            return repr(error)

    def _stream(self, client: httpx.Client) -> str | None:
        body = {**self._body(), "stream": True}
        try:
            with client.stream("POST", f"{self.url}/v1/completions", json=body) as answer:
                if answer.status_code != 200:
                    return f"stream: {answer.status_code}"
                lines = [line for line in answer.iter_lines() if line]
        except httpx.HTTPError as error:
            return f"stream: {error!r}"
        if lines[-1:] != ["data: [DONE]"] or len(lines) < 2:
            return f"stream ended with {lines[-1:]} after {len(lines)} lines"
        return None
