"""openYuanrong's own client (``yr.datasystem``, 0.8.1), in the few calls we use.

Measured with 0.8.1: every call holds Python's global lock for as long as it
takes, its timeouts included, so one call stops a whole process. Hence the short
timeouts here and the small batches in :mod:`client`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from pdinfra_vllm.yuanrong import values

# The client's words for answers that do not mean that it is gone. "Invalid": a
# key is malformed, or exists with another write mode, as nothing of ours does.
_NOT_FOUND = "[Key not found]"
_FULL = "[Out of memory]"
_INVALID = "[Invalid parameter]"


# The client logs below $HOME/.datasystem, each call in an access log: without
# these up to 5 files of 400 MB.
_LOGGING = {
    "DATASYSTEM_LOG_MONITOR_ENABLE": "false",
    "DATASYSTEM_MIN_LOG_LEVEL": "2",
    "DATASYSTEM_CLIENT_MAX_LOG_SIZE": "16",
    "DATASYSTEM_MAX_LOG_FILE_NUM": "2",
}


class UnavailableError(Exception):
    """The data system did not do what it was asked: gone, too slow or broken."""


class FullError(Exception):
    """The data system has no room and could not make any."""


class RefusedError(Exception):
    """The data system works, but does not take these keys or values."""


class Client(Protocol):
    """A connection to one worker of the data system."""

    def write(self, items: Sequence[tuple[str, Sequence[values.Buffer]]]) -> None:
        """Store values made of parts, all or an error.

        Raises:
            UnavailableError: The data system failed.
            FullError: It has no room.
            RefusedError: It does not take one of them; the others may be stored.
        """

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, memoryview]]:
        """Return what is stored, header included; missing keys are left out.

        A view may be the shared memory itself: it is valid while the iterator lives.

        Raises:
            UnavailableError: The data system failed.
        """

    def exist(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether it is stored.

        Raises:
            UnavailableError: The data system failed.
        """

    def delete(self, keys: Sequence[str]) -> None:
        """Remove what is stored under the keys, if anything.

        Raises:
            UnavailableError: The data system failed.
        """


class NativeClient:
    """A :class:`Client` on ``yr.datasystem.KVClient``."""

    def __init__(
        self, host: str, port: int, connect_timeout_ms: int, request_timeout_ms: int, ttl_s: int
    ) -> None:
        """Connect to the worker at ``host:port``.

        Raises:
            UnavailableError: The worker does not answer in time.
            ImportError: The package is not installed.
        """
        for name, value in _LOGGING.items():
            os.environ.setdefault(name, value)
        from yr.datasystem import KVClient
        from yr.datasystem.object_client import WriteMode

        # Evictable: a full data system then drops what is old, not what is new.
        self._options = {"write_mode": WriteMode.NONE_L2_CACHE_EVICT, "ttl_second": ttl_s}
        try:
            self._client: Any = KVClient(
                host, port, connect_timeout_ms=connect_timeout_ms, req_timeout_ms=request_timeout_ms
            )
            self._client.init()
        except RuntimeError as error:
            raise UnavailableError(_first_line(error)) from error

    def write(self, items: Sequence[tuple[str, Sequence[values.Buffer]]]) -> None:
        """Store values made of parts, copying each part once, into shared memory."""
        keys = [key for key, _ in items]
        sizes = [values.HEADER_SIZE + values.size_of(parts) for _, parts in items]
        try:
            buffers = self._client.mcreate(keys, sizes, **self._options)
            for buffer, (key, parts) in zip(buffers, items, strict=True):
                values.write(key, parts, memoryview(buffer.MutableData()))
            self._client.mset_buffer(buffers)
        except RuntimeError as error:
            raise _write_error(error) from error

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, memoryview]]:
        """Return what is stored; on the worker's own host without a copy."""
        try:
            buffers = self._client.get_read_only_buffers(list(keys))
        except RuntimeError as error:
            # Said only when none of the keys is there.
            if _NOT_FOUND in str(error):
                return iter(())
            raise UnavailableError(_first_line(error)) from error
        return (
            (key, buffer.immutable_data())
            for key, buffer in zip(keys, buffers, strict=True)
            if buffer is not None
        )

    def exist(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether it is stored."""
        try:
            return [bool(found) for found in self._client.exist(list(keys))]
        except RuntimeError as error:
            if _NOT_FOUND in str(error):
                return [False] * len(keys)
            raise UnavailableError(_first_line(error)) from error

    def delete(self, keys: Sequence[str]) -> None:
        """Remove what is stored under the keys, if anything."""
        try:
            self._client.delete(list(keys))
        except RuntimeError as error:
            if _NOT_FOUND not in str(error):
                raise UnavailableError(_first_line(error)) from error


def _write_error(error: RuntimeError) -> UnavailableError | FullError | RefusedError:
    if _FULL in str(error):
        return FullError(_first_line(error))
    if _INVALID in str(error):
        return RefusedError(_first_line(error))
    return UnavailableError(_first_line(error))


def _first_line(error: RuntimeError) -> str:
    return (str(error).splitlines() or [""])[0]
