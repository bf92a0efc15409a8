"""Errors in OpenAI's form, and what becomes of those that come from the inside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

RETRY_SECONDS = 1
"""A member that left is replaced, and a handover done, within seconds."""
ERROR_BYTES = 64 << 10
"""An error longer than this says nothing to a client."""
ADDRESS = re.compile(
    r"\w+://[^\s\"'`<>)\]]+"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?"
    r"|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\](?::\d+)?"
    r"|\blocalhost(?::\d+)?"
)
"""URLs, IPv4 and bracketed IPv6 addresses; of the inside as far as anybody can tell."""
UNAVAILABLE = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}


class RefusedError(Exception):
    """An answer that is an error: a status, and the members of OpenAI's ``error`` object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | int | None = None,
    ) -> None:
        """Keep what the client is told; ``kind`` is the object's ``type``."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code

    @property
    def headers(self) -> dict[str, str]:
        """What a client is told beside the body: when to try again."""
        return {"Retry-After": str(RETRY_SECONDS)} if self.status == 503 else {}

    def body(self) -> bytes:
        """Return the JSON document."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}).encode()


def unavailable(message: str) -> RefusedError:
    """Return 503: try again."""
    return RefusedError(503, message, kind="service_unavailable", code="service_unavailable")


def failed(message: str, status: int = 502) -> RefusedError:
    """Return an engine's fault; trying again may not help."""
    return RefusedError(status, message, kind="server_error", code="engine_error")


def mended(status: int, body: bytes) -> RefusedError:
    """Return the error of an engine or of vllm-router as clients may see it.

    vllm-router 0.1.17 answers in plain text where it fails itself: 400 and 422 for bodies that it
    cannot read, 500 with an engine's URL while one side is down (measured). Engines answer in JSON.
    """
    found = _error(body)
    if status in UNAVAILABLE or (status == 500 and found is None and not _engines(body)):
        return unavailable("no prefill and decode pair could answer this request; try again")
    if status >= 500:
        return failed("the engine failed on this request", 500)
    # FastAPI's and serde's word for what OpenAI calls 400.
    status = 400 if status == 422 else status
    if found is None:
        text = body.decode("utf-8", "replace").strip() or _phrase(status)
        return RefusedError(status, hidden(text))
    return RefusedError(
        status,
        hidden(str(found.get("message") or _phrase(status))),
        kind=str(found.get("type") or "invalid_request_error"),
        param=_word(found.get("param")),
        code=_code(found.get("code")),
    )


def hidden(text: str) -> str:
    """Return a message without addresses."""
    return ADDRESS.sub("(address)", text)


def _error(body: bytes) -> Mapping[str, Any] | None:
    """Return the error object: OpenAI's, vLLM's of before 0.10 (``object: error``), FastAPI's."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {"message": error}
    if document.get("object") == "error":
        return document
    if "detail" in document:
        detail = document["detail"]
        return {"message": detail if isinstance(detail, str) else json.dumps(detail)}
    return None


def _engines(body: bytes) -> bool:
    """Tell whether plain text says that an engine failed, which it would do again.

    Either its framework's word, or vllm-router's: "Prefill server URL returned 500 ..." (measured).
    """
    return body.strip() == b"Internal Server Error" or b" returned 500 " in body


def _phrase(status: int) -> str:
    """Return HTTP's name of a status."""
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else f"status {status}"


def _word(value: object) -> str | None:
    """Return a field's name if there is one."""
    return value if isinstance(value, str) else None


def _code(value: object) -> str | int | None:
    """Return an error's code: OpenAI has words, vLLM numbers."""
    return value if isinstance(value, str | int) else None
