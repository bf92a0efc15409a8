"""A store of values in openYuanrong's data system that never fails its caller.

A fault of the data system makes values missing and puts fail; it never raises
and, after the first, costs next to nothing until the data system is back.
"""

from __future__ import annotations

import dataclasses
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from pdinfra_vllm.yuanrong import native, values
from pdinfra_vllm.yuanrong.breaker import Breaker

_logger = logging.getLogger("vllm.pdinfra.yuanrong")

# Bounds of one native call, which stops the whole process while it lasts.
_BATCH_BYTES = 32 * 1024 * 1024
_BATCH_KEYS = 256
# Without a success for this long, a TCP connection is tried before a native call:
# it tells in microseconds, and without Python's global lock, that a worker is gone.
_TRUSTED_S = 0.5
_REACH_TIMEOUT_S = 0.3

_FAULTS = (native.UnavailableError, native.FullError, native.RefusedError)

Value = values.Buffer | Sequence[values.Buffer]


@dataclasses.dataclass
class Counters:
    """What a store did since it was made. Bytes are payload, without headers."""

    stored: int = 0
    stored_bytes: int = 0
    loaded: int = 0
    loaded_bytes: int = 0
    missing: int = 0
    damaged: int = 0
    failures: int = 0
    skipped: int = 0


class Store:
    """Values by key in the data system, through the worker at one address.

    Keys have 1 to 255 characters of ``a-zA-Z0-9-_!@#%^*()+=:;``. Calls may come
    from several threads.
    """

    def __init__(
        self,
        address: str,
        *,
        connect_timeout_ms: int = 1000,
        request_timeout_ms: int = 2000,
        ttl_s: int = 3600,
        connect: Callable[[], native.Client] | None = None,
        reachable: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to the worker at ``address`` (``host:port``) if it answers.

        ``ttl_s`` is how long a value lives. ``connect``, ``reachable`` and
        ``clock`` are for tests.

        Raises:
            ValueError: ``address`` is not ``host:port``.
            ImportError: The package openyuanrong-datasystem is not installed.
        """
        host, port = parse_address(address)
        self._address = address
        self._connect = connect or (
            lambda: native.NativeClient(host, port, connect_timeout_ms, request_timeout_ms, ttl_s)
        )
        self._reachable = reachable or (lambda: _accepts_connections(host, port))
        self._clock = clock
        self._client: native.Client | None = None
        self._reads = Breaker(clock)
        self._writes = Breaker(clock)
        self._last_success = float("-inf")
        self._lock = threading.Lock()
        self.counters = Counters()
        try:
            self._ready_client()
        except native.UnavailableError as error:
            self._fault(error)

    @property
    def available(self) -> bool:
        """Whether the next call will try to reach the data system."""
        return not self._reads.is_open

    def put(self, items: Mapping[str, Value]) -> set[str]:
        """Store values and return the keys of those that were not stored.

        A value is one buffer or several, which are stored one after the other.
        """
        failed: set[str] = set()
        for batch in _batches(items):
            failed |= self._put(batch)
        return failed

    def get(self, keys: Sequence[str]) -> dict[str, memoryview]:
        """Return copies of the values that are there and undamaged, by key."""
        return {key: memoryview(bytes(view)) for key, view in self.read(keys)}

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, memoryview]]:
        """Yield key and value of those that are there and undamaged, without a copy.

        A view is valid only until the next one is asked for.
        """
        for start in range(0, len(keys), _BATCH_KEYS):
            yield from self._read(keys[start : start + _BATCH_KEYS])

    def exist(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether a value is there, whatever its state."""
        if not keys:
            return []
        if self._reads.is_open:
            self.counters.skipped += len(keys)
            return [False] * len(keys)
        try:
            found = self._ready_client().exist(keys)
        except _FAULTS as error:
            self._fault(error)
            return [False] * len(keys)
        self._success()
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Remove the values of these keys, if the data system lets us."""
        if not keys or self._reads.is_open:
            return
        try:
            self._ready_client().delete(keys)
        except _FAULTS as error:
            self._fault(error)

    def _put(self, batch: list[tuple[str, Sequence[values.Buffer]]]) -> set[str]:
        keys = {key for key, _ in batch}
        if self._reads.is_open or self._writes.is_open:
            self.counters.skipped += len(keys)
            return keys
        try:
            self._ready_client().write(batch)
        except native.FullError as error:
            self._full(error)
            return keys
        except native.RefusedError as error:
            # A key that exists with other options is refused for ever, unless removed.
            self.counters.failures += 1
            _logger.warning("the data system at %s refuses a value: %s", self._address, error)
            self.delete(sorted(keys))
            return keys
        except native.UnavailableError as error:
            self._fault(error)
            return keys
        self._success()
        self._writes.success()
        self.counters.stored += len(batch)
        self.counters.stored_bytes += sum(values.size_of(parts) for _, parts in batch)
        return set()

    def _read(self, keys: Sequence[str]) -> Iterator[tuple[str, memoryview]]:
        if self._reads.is_open:
            self.counters.skipped += len(keys)
            return
        seen = 0
        damaged: list[str] = []
        try:
            for key, value in self._ready_client().read(keys):
                seen += 1
                view = self._checked(key, value)
                if view is None:
                    damaged.append(key)
                else:
                    yield key, view
        except _FAULTS as error:
            self._fault(error)
            return
        self._success()
        self.counters.missing += len(keys) - seen
        # Or it would be found, and not stored anew, until it expires.
        self.delete(damaged)

    def _checked(self, key: str, value: memoryview) -> memoryview | None:
        try:
            view = values.payload(key, value)
        except values.DamagedError as error:
            self.counters.damaged += 1
            _logger.warning("the value of %s in the data system is damaged: %s", key, error)
            return None
        self.counters.loaded += 1
        self.counters.loaded_bytes += view.nbytes
        return view

    def _ready_client(self) -> native.Client:
        """Return a client whose worker answered lately or accepts connections now."""
        if self._clock() - self._last_success > _TRUSTED_S and not self._reachable():
            raise native.UnavailableError("the worker accepts no connection")
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _success(self) -> None:
        self._last_success = self._clock()
        if self._reads.success():
            _logger.info("the data system at %s answers again", self._address)

    def _fault(self, error: Exception) -> None:
        self.counters.failures += 1
        self._last_success = float("-inf")
        # Counted before this one: the log gets the first fault of a row and one of
        # each longest pause, not one per request.
        before, pause = self._reads.faults, self._reads.fault()
        if before == 0 or before == 5 or before % 16 == 0:
            _logger.warning(
                "the data system at %s fails, next try in %.0f s: %s", self._address, pause, error
            )

    def _full(self, error: Exception) -> None:
        self.counters.failures += 1
        self._last_success = self._clock()
        before, pause = self._writes.faults, self._writes.fault()
        if before == 0:
            _logger.warning(
                "the data system at %s is full, next write in %.0f s: %s",
                self._address,
                pause,
                error,
            )


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port``.

    Raises:
        ValueError: It has another form.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"a data-system worker's address is host:port, not {address!r}")
    return host, int(port)


def _batches(
    items: Mapping[str, Value],
) -> Iterator[list[tuple[str, Sequence[values.Buffer]]]]:
    """Yield the items in groups within the bounds of one native call."""
    batch: list[tuple[str, Sequence[values.Buffer]]] = []
    size = 0
    for key, value in items.items():
        parts = [value] if isinstance(value, bytes | bytearray | memoryview) else value
        length = values.size_of(parts)
        if batch and (size + length > _BATCH_BYTES or len(batch) == _BATCH_KEYS):
            yield batch
            batch, size = [], 0
        batch.append((key, parts))
        size += length
    if batch:
        yield batch


def _accepts_connections(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_REACH_TIMEOUT_S).close()
    except OSError:
        return False
    return True
