"""A key written to one data-system worker, and read from another: the proof that they are one.

Source: the KV client of openyuanrong-datasystem 0.8.1, measured on two hosts; the module of 0.5.0
is inferred from the second guide's `datasystem.hetero_client`.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, Protocol

CLIENTS = ("yr.datasystem", "datasystem.kv_client")
"""Modules of the client, newest first (table of versions: 0.6.0 and newer, 0.5.0)."""
CONNECT_MS = 5000
KEY = re.compile(r"[a-zA-Z0-9\-_!@#%^*()+=:;]{1,255}")
"""What the data system takes for a key (its own message, measured on 0.8.1): no dot, no slash."""


class KvError(Exception):
    """The data system refused; the text says what and why."""


class Client(Protocol):
    """What is used of the client."""

    def init(self) -> object:
        """Connect."""

    def set(self, key: str, value: bytes) -> object:
        """Write."""

    def get(self, keys: list[str]) -> list[bytes | None]:
        """Read."""


def client(address: str) -> Client:
    """Connect to a worker, ``ip:port``. Raises KvError."""
    host, _, port = address.rpartition(":")
    kind = _kind()
    try:
        made: Client = kind(host, int(port), connect_timeout_ms=CONNECT_MS)
        made.init()
    except (RuntimeError, ValueError, TypeError) as error:
        raise KvError(f"no connection to the worker {address}: {_words(error)}") from error
    return made


def write(address: str, key: str, value: bytes) -> None:
    """Write a key to a worker. Raises KvError."""
    if not KEY.fullmatch(key):
        raise KvError(
            f"{key!r} is no key. Fix: up to 255 letters, digits and - _ ! @ # % ^ * ( ) + = : ;"
        )
    try:
        client(address).set(key, value)
    except RuntimeError as error:
        raise KvError(
            f"worker {address} does not take a key: {_words(error)}. Fix: compare its master's "
            "address and port with the plan; etcd and yr health say ready all the same"
        ) from error


def read(address: str, key: str) -> bytes:
    """Read a key from a worker. Raises KvError, also where there is none."""
    try:
        found = client(address).get([key])
    except RuntimeError as error:
        raise KvError(
            f"worker {address} does not find {key}: {_words(error)}. Fix: compare its master's "
            "address and port with the plan, and whether the two hosts reach each other's worker"
        ) from error
    if not found or found[0] is None:
        raise KvError(f"worker {address} has nothing under {key}")
    return bytes(found[0])


def _kind() -> Any:
    """Return the client's class. Raises KvError."""
    reasons = []
    for name in CLIENTS:
        try:
            return importlib.import_module(name).KVClient
        except (ImportError, AttributeError) as error:
            reasons.append(str(error))
    raise KvError(
        f"no client of the data system: {'; '.join(reasons)}. Fix: install openyuanrong-datasystem "
        "of the same version; next to openyuanrong 9.9.9 it does not load, use another environment"
    )


def _words(error: Exception) -> str:
    """Return an error in one line."""
    return " ".join(str(error).split())
