"""KV blocks as bytes: between an engine's KV cache and the data system."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from pdinfra_vllm.yuanrong import keys
from pdinfra_vllm.yuanrong.client import Store

# Bytes between two looks at the clock while saving.
SAVE_CHUNK = 32 * 1024 * 1024

Layer = Sequence[memoryview]
"""A layer's KV cache: for each block id its bytes, writable, of one length."""


class Blocks:
    """One worker's part of the KV blocks of an engine.

    A block's value is the concatenation of its bytes in all layers.
    """

    def __init__(
        self,
        store: Store,
        layers: Sequence[Layer],
        rank: str,
        save_limit_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Work on these layers. A save that takes ``save_limit_s`` stops there."""
        self._store = store
        self._layers = layers
        self._rank = rank
        self._save_limit_s = save_limit_s
        self._clock = clock
        self._sizes = [len(layer[0]) for layer in layers]
        self.dropped = 0

    @property
    def block_bytes(self) -> int:
        """How long a block's value is."""
        return sum(self._sizes)

    def load(self, hashes: Sequence[bytes], block_ids: Sequence[int]) -> set[int]:
        """Fill blocks from the data system and return the ids of those that failed.

        A block that failed holds anything and must be computed.
        """
        targets = dict(zip(keys.keys(hashes, self._rank), block_ids, strict=True))
        failed = set(block_ids)
        unusable = []
        for key, value in self._store.read(list(targets)):
            if value.nbytes != self.block_bytes:
                unusable.append(key)
                continue
            self._fill(targets[key], value)
            failed.discard(targets[key])
        self._store.counters.damaged += len(unusable)
        self._store.delete(unusable)
        return failed

    def save(self, hashes: Sequence[bytes], block_ids: Sequence[int]) -> None:
        """Store those of the blocks that are not stored yet."""
        sources = dict(zip(keys.keys(hashes, self._rank), block_ids, strict=True))
        names = list(sources)
        missing = [
            name for name, found in zip(names, self._store.exist(names), strict=True) if not found
        ]
        deadline = self._clock() + self._save_limit_s
        for chunk in self._chunks(missing):
            if self._clock() >= deadline:
                self.dropped += len(chunk)
                continue
            self._store.put({name: self._parts(sources[name]) for name in chunk})

    def _chunks(self, names: Sequence[str]) -> Iterator[Sequence[str]]:
        count = max(1, SAVE_CHUNK // self.block_bytes)
        for start in range(0, len(names), count):
            yield names[start : start + count]

    def _parts(self, block_id: int) -> list[memoryview]:
        return [layer[block_id] for layer in self._layers]

    def _fill(self, block_id: int, value: memoryview) -> None:
        start = 0
        for layer, size in zip(self._layers, self._sizes, strict=True):
            layer[block_id][:] = value[start : start + size]
            start += size
