"""The data system's KV client, as far as weights need it.

Values are read and written in place, in the memory that client and worker share, where
they share one (the worker's unix_domain_socket_dir is mounted where the engine runs);
the client falls back to TCP and to memory of its own by itself.

Measured with openyuanrong-datasystem 0.8.1: ``exist`` answers for a missing key in 1 to
3 ms where ``get`` may take seconds; reserved values are invisible until they are
committed, and are given back when their buffers go; a value that is read stays
readable when its key is deleted or expires; a worker that is full answers at the
request's time limit.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

Answer = TypeVar("Answer")

MAX_KEYS = 1000
"""Keys in one request; the client's own limits are 2,000 (mcreate) and more."""

_CODE = re.compile(r"code: \[([^]]+)\]")
_EXISTS = "Object already exist"


class StoreError(Exception):
    """The data system did not do it; the message says why, in one line."""


class Value(NamedTuple):
    """A value in place."""

    view: memoryview
    owner: object
    """What must live as long as the view is used."""


class Store(Protocol):
    """What this package asks of the data system. Every method raises StoreError."""

    def exist(self, keys: Sequence[str]) -> list[bool]:
        """Return which keys there are."""

    def read(self, keys: Sequence[str]) -> list[Value | None]:
        """Return the values, None for each that is not there."""

    def reserve(self, keys: Sequence[str], sizes: Sequence[int], ttl_s: int) -> list[Value]:
        """Return writable values that nobody sees before they are committed."""

    def commit(self, values: Sequence[Value]) -> None:
        """Make reserved values visible."""

    def put_new(self, key: str, value: bytes, ttl_s: int) -> bool:
        """Write a value unless there is one; return whether it was written."""

    def renew(self, keys: Sequence[str], ttl_s: int) -> list[str]:
        """Let values live for so long from now; return the keys that are not there."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete what is there of these."""


class DataSystem:
    """A Store on one worker of openYuanrong's data system."""

    def __init__(self, host: str, port: int, connect_ms: int, request_ms: int) -> None:
        """Connect. Raises StoreError, at once if nothing listens there."""
        # Both bring abseil and protobuf, of other versions: a segmentation fault, whichever comes
        # first (nixl 1.5.1, datasystem 0.8.1).
        if any(name.startswith("nixl_cu") for name in sys.modules):
            raise StoreError("the data system's client and NIXL cannot be in one process")
        # The client tries again until its time limit is over, also where a connection is refused.
        try:
            socket.create_connection((host, port), connect_ms / 1000).close()
        except OSError as error:
            raise StoreError(f"no data-system worker at {host}:{port}: {error}") from None
        try:
            from yr.datasystem.kv_client import ExistenceOpt, KVClient
        except ImportError as error:
            raise StoreError(f"openyuanrong-datasystem is not installed: {error}") from None
        self._only_new = ExistenceOpt.NX
        self._client: Any = KVClient(
            host, port, connect_timeout_ms=request_ms, req_timeout_ms=request_ms
        )
        _asked(self._client.init)

    def exist(self, keys: Sequence[str]) -> list[bool]:
        """Return which keys there are."""
        return [found for some in _batches(keys) for found in _asked(self._client.exist, some)]

    def read(self, keys: Sequence[str]) -> list[Value | None]:
        """Return the values, None for each that is not there."""
        found = _asked(self._client.get_read_only_buffers, list(keys), 0)
        return [each and Value(each.immutable_data(), each) for each in found]

    def reserve(self, keys: Sequence[str], sizes: Sequence[int], ttl_s: int) -> list[Value]:
        """Return writable values that nobody sees before they are committed."""
        values: list[Value] = []
        for some in _batches(keys):
            lengths = list(sizes[len(values) : len(values) + len(some)])
            made = _asked(self._client.mcreate, some, lengths, ttl_second=ttl_s)
            values += [Value(each.MutableData(), each) for each in made]
        return values

    def commit(self, values: Sequence[Value]) -> None:
        """Make reserved values visible."""
        for some in _batches([value.owner for value in values]):
            _asked(self._client.mset_buffer, some)

    def put_new(self, key: str, value: bytes, ttl_s: int) -> bool:
        """Write a value unless there is one; return whether it was written."""
        try:
            self._client.msettx([key], [value], ttl_second=ttl_s, existence_opt=self._only_new)
        except RuntimeError as error:
            if _EXISTS in str(error):
                return False
            raise StoreError(_short(error)) from None
        return True

    def renew(self, keys: Sequence[str], ttl_s: int) -> list[str]:
        """Let values live for so long from now; return the keys that are not there."""
        return [key for some in _batches(keys) for key in _asked(self._client.expire, some, ttl_s)]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete what is there of these."""
        for some in _batches(keys):
            _asked(self._client.delete, some)


def _asked(request: Callable[..., Answer], *arguments: object, **named: object) -> Answer:
    """Return the answer. Raises StoreError for the client's errors."""
    try:
        return request(*arguments, **named)
    except RuntimeError as error:
        raise StoreError(_short(error)) from None


def _short(error: RuntimeError) -> str:
    """Return the client's own name for an error; its whole message has many lines of traces."""
    found = _CODE.search(str(error))
    return f"data system: {found[1]}" if found else f"data system: {str(error)[:200]}"


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), MAX_KEYS):
        yield list(items[start : start + MAX_KEYS])
