"""Through host memory: chunks of bounded size in the data system's shared memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from pdinfra_vllm.yuanrong_load.manifest import (
    Chunk,
    Manifest,
    Piece,
    TensorSpec,
    keys,
    pieces,
    sizes,
)
from pdinfra_vllm.yuanrong_load.names import Names
from pdinfra_vllm.yuanrong_load.pages import populate
from pdinfra_vllm.yuanrong_load.store import Store, StoreError, Value
from pdinfra_vllm.yuanrong_load.transport import NotPublishedError, UnfitError

AT_ONCE = 8
"""Chunks in one request: each request has its own time limit."""

POPULATING = "pdinfra-populate-room"
"""Name of a thread."""

Checksum = Callable[[memoryview], str]


class Memory(Protocol):
    """The tensors' bytes."""

    def write(self, tensor: int, start: int, data: memoryview) -> None:
        """Copy data into a tensor, from a byte on."""

    def read(self, tensor: int, start: int, into: memoryview) -> None:
        """Copy a tensor's bytes, from one on, into a buffer and fill it."""


def blake3(data: memoryview) -> str:
    """Return the checksum of a chunk. vLLM brings the package; 2.7 GiB/s on one core here."""
    from blake3 import blake3 as digest

    return str(digest(data).hexdigest(length=16))


class HostTransport:
    """Chunks in shared memory, verified there, then copied into the tensors."""

    name = "host"

    def __init__(
        self,
        store: Store,
        memory: Memory,
        tensors: Sequence[TensorSpec],
        chunk_bytes: int,
        lease_s: int,
        checksum: Checksum = blake3,
    ) -> None:
        """Take the store, the tensors and their bytes, and the chunks' size and life."""
        self._store = store
        self._memory = memory
        self._tensors = tensors
        self._chunk_bytes = chunk_bytes
        self._lease_s = lease_s
        self._checksum = checksum

    def stage(self, manifest: Manifest, expired: Callable[[], bool]) -> Callable[[], None]:
        """Verify every chunk in place; return what then copies them into the tensors."""
        chunk_bytes = manifest.chunks[0].bytes if manifest.chunks else self._chunk_bytes
        if [chunk.bytes for chunk in manifest.chunks] != sizes(self._tensors, chunk_bytes):
            raise UnfitError("chunks do not hold the tensors")
        values: list[Value] = []
        with ThreadPoolExecutor(_threads()) as pool:
            sums = []
            # Checksums of what is here are made while the next chunks come.
            for start in range(0, len(manifest.chunks), AT_ONCE):
                if expired():
                    raise StoreError("data system: too slow")
                some = manifest.chunks[start : start + AT_ONCE]
                for chunk, value in zip(some, self._store.read(keys(some)), strict=True):
                    if value is None:
                        raise UnfitError(f"chunk {chunk.key} is missing")
                    if value.view.nbytes != chunk.bytes:
                        raise UnfitError(f"chunk {chunk.key} has another size")
                    values.append(value)
                    sums.append(pool.submit(self._checksum, value.view))
            for chunk, found in zip(manifest.chunks, sums, strict=True):
                if found.result() != chunk.checksum:
                    raise UnfitError(f"chunk {chunk.key} has another checksum")

        def write_chunk(value: Value, parts: list[Piece]) -> None:
            for part in parts:
                data = value.view[part.at : part.at + part.length]
                self._memory.write(part.tensor, part.start, data)

        return lambda: _each(write_chunk, values, pieces(self._tensors, chunk_bytes))

    def publication(self, names: Names, name: str) -> HostPublication:
        """Return a new publication of the tensors."""
        return HostPublication(
            self._store,
            self._memory,
            self._tensors,
            names,
            name,
            self._chunk_bytes,
            self._lease_s,
            self._checksum,
        )


class HostPublication:
    """Room for all chunks before the load, one copy right after it, the rest later."""

    def __init__(
        self,
        store: Store,
        memory: Memory,
        tensors: Sequence[TensorSpec],
        names: Names,
        name: str,
        chunk_bytes: int,
        lease_s: int,
        checksum: Checksum,
    ) -> None:
        """Take what to publish, and under which keys."""
        self._store = store
        self._memory: Memory | None = memory
        self._tensors = tensors
        self._sizes = sizes(tensors, chunk_bytes)
        self._keys = [names.chunk(name, index) for index in range(len(self._sizes))]
        self._chunk_bytes = chunk_bytes
        self._lease_s = lease_s
        self._checksum = checksum
        self._values: list[Value] = []
        self._loaded = threading.Event()
        self._visible = False

    def begin(self) -> None:
        """Reserve all chunks, or none; their memory is made present while the disk is read."""
        try:
            self._values = self._store.reserve(self._keys, self._sizes, self._lease_s)
        except StoreError as error:
            gb = sum(self._sizes) / 1e9
            raise NotPublishedError(f"no room was made for {gb:.2f} GB: {error}") from None
        room = list(self._values)
        threading.Thread(
            target=lambda: _populate(room, self._loaded), name=POPULATING, daemon=True
        ).start()

    def loaded(self) -> None:
        """Copy the tensors: vLLM repacks and drops them next. Takes as long as a memory copy."""
        self._loaded.set()
        memory, self._memory = self._memory, None
        if memory is None:
            return

        def copy_chunk(value: Value, parts: list[Piece]) -> None:
            for part in parts:
                into = value.view[part.at : part.at + part.length]
                memory.read(part.tensor, part.start, into)

        _each(copy_chunk, self._values, pieces(self._tensors, self._chunk_bytes))

    def finish(self) -> tuple[Chunk, ...]:
        """Make the chunks visible; return them with their checksums."""
        chunks = tuple(
            Chunk(key, value.view.nbytes, self._checksum(value.view))
            for key, value in zip(self._keys, self._values, strict=True)
        )
        self._visible = True
        self._store.commit(self._values)
        self._values = []
        return chunks

    def abandon(self) -> None:
        """Give the room back and delete what is visible."""
        self._loaded.set()
        self._values, self._memory = [], None
        if self._visible:
            self._store.delete(self._keys)


def _populate(values: list[Value], enough: threading.Event) -> None:
    """Make the values' memory present, until it is enough: what is left the copy itself does."""
    while values and not enough.is_set():
        populate(values.pop().view)


def _each(
    do: Callable[[Value, list[Piece]], None],
    values: Sequence[Value],
    cut: Iterable[list[Piece]],
) -> None:
    """Do it for every chunk, several at once: an engine's own threads may be one."""
    with ThreadPoolExecutor(_threads()) as pool:
        # list: raises what a thread raised.
        list(pool.map(do, values, cut))


def _threads() -> int:
    """Return how many chunks are worked on at once."""
    return min(8, len(os.sched_getaffinity(0)))
