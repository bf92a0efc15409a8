"""A store of values in openYuanrong's data system that never fails its caller.

A fault of the data system makes values missing and puts fail; it never raises
and, after the first, costs next to nothing until the data system is back.
"""

from __future__ import annotations

import contextlib
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

_FAULTS = (native.UnavailableError, native.FullError)

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
        self._slow_s = 0.8 * request_timeout_ms / 1000
        # Apart, because a look-up may work while what it finds cannot be read, and
        # a full data system can still be read.
        self._link = Breaker(clock)
        self._reads = Breaker(clock)
        self._writes = Breaker(clock)
        self._last_success = float("-inf")
        self._lock = threading.Lock()
        self.counters = Counters()
        with self._watch(self._link):
            self._ready_client()

    @property
    def available(self) -> bool:
        """Whether the next look-up will try to reach the data system."""
        return not (self._link.is_open or self._reads.is_open)

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
        """Return for each key whether a value is there, whatever its state.

        While values cannot be read, none exists.
        """
        if not keys:
            return []
        if not self.available:
            self.counters.skipped += len(keys)
            return [False] * len(keys)
        with self._watch(self._link):
            return self._ready_client().exist(keys)
        return [False] * len(keys)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove the values of these keys, if the data system lets us."""
        if not keys or self._link.is_open or self._writes.is_open:
            return
        with self._watch(self._writes):
            self._ready_client().delete(keys)

    def _put(self, batch: list[tuple[str, Sequence[values.Buffer]]]) -> set[str]:
        keys = {key for key, _ in batch}
        if self._link.is_open or self._writes.is_open:
            self.counters.skipped += len(keys)
            return keys
        try:
            stored = self._write(batch)
        except native.RefusedError:
            # A key that exists with other options is refused until it is removed.
            self.delete(sorted(keys))
            try:
                stored = self._write(batch)
            except native.RefusedError as error:
                self.counters.failures += 1
                _logger.warning("the data system at %s refuses a value: %s", self._address, error)
                return keys
        if not stored:
            return keys
        self.counters.stored += len(batch)
        self.counters.stored_bytes += sum(values.size_of(parts) for _, parts in batch)
        return set()

    def _write(self, batch: list[tuple[str, Sequence[values.Buffer]]]) -> bool:
        """Return whether the data system took the values.

        Raises:
            native.RefusedError: It works, but does not take them.
        """
        with self._watch(self._writes):
            self._ready_client().write(batch)
            return True
        return False

    def _read(self, keys: Sequence[str]) -> Iterator[tuple[str, memoryview]]:
        if not self.available:
            self.counters.skipped += len(keys)
            return
        answers: Iterator[tuple[str, memoryview]] = iter(())
        with self._watch(self._reads):
            answers = self._ready_client().read(keys)
        seen = 0
        damaged: list[str] = []
        for key, value in answers:
            seen += 1
            view = self._checked(key, value)
            if view is None:
                damaged.append(key)
            else:
                yield key, view
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
            raise _UnreachableError("the worker accepts no connection")
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    @contextlib.contextmanager
    def _watch(self, breaker: Breaker) -> Iterator[None]:
        """Swallow a fault of the data system and open the breaker of what failed.

        A call that used up its time counts as a fault whatever it returned: when
        another host's worker is gone, the client waits for it and then answers
        without that worker's values.
        """
        start = self._clock()
        try:
            yield
        except _UnreachableError as error:
            self._fault(self._link, error)
            return
        except _FAULTS as error:
            self._fault(breaker, error)
            return
        self._last_success = self._clock()
        if self._last_success - start > self._slow_s:
            self._fault(breaker, native.UnavailableError("it was too slow"))
            return
        if self._link.success() | breaker.success():
            _logger.info("the data system at %s works again", self._address)

    def _fault(self, breaker: Breaker, error: Exception) -> None:
        self.counters.failures += 1
        self._last_success = float("-inf")
        before, pause = breaker.faults, breaker.fault()
        # The first fault of a row and then few: not one line per request.
        if before in (0, 5) or before % 16 == 15:
            _logger.warning(
                "the data system at %s fails, next try in %.0f s: %s", self._address, pause, error
            )


class _UnreachableError(native.UnavailableError):
    """Nothing listens at the worker's address."""


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
