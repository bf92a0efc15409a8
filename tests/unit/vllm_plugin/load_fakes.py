"""A data system, tensors and devices in plain memory, which fail where the real ones fail."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pdinfra_vllm.yuanrong_load.host import HostTransport
from pdinfra_vllm.yuanrong_load.manifest import TensorSpec
from pdinfra_vllm.yuanrong_load.store import StoreError, Value


def checksum(data: memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class FakeStore:
    """A data system with so many bytes of memory."""

    room: int = 1 << 30
    values: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    dead_at: str = ""
    """The call at which the worker is gone, and from then on."""

    def exist(self, keys: Sequence[str]) -> list[bool]:
        self._alive("exist")
        return [key in self.values for key in keys]

    def read(self, keys: Sequence[str]) -> list[Value | None]:
        self._alive("read")
        found = [self.values.get(key) for key in keys]
        return [None if each is None else Value(memoryview(each), None) for each in found]

    def reserve(self, keys: Sequence[str], sizes: Sequence[int], ttl_s: int) -> list[Value]:
        self._alive("reserve")
        if sum(sizes) + sum(map(len, self.values.values())) > self.room:
            raise StoreError("data system: Out of memory")
        return [
            Value(memoryview(bytearray(size)), key) for key, size in zip(keys, sizes, strict=True)
        ]

    def commit(self, values: Sequence[Value]) -> None:
        self._alive("commit")
        self.values.update({str(value.owner): bytes(value.view) for value in values})

    def put_new(self, key: str, value: bytes, ttl_s: int) -> bool:
        self._alive("put_new")
        if key in self.values:
            return False
        self.values[key] = value
        return True

    def renew(self, keys: Sequence[str], ttl_s: int) -> list[str]:
        self._alive("renew")
        return [key for key in keys if key not in self.values]

    def delete(self, keys: Sequence[str]) -> None:
        self._alive("delete")
        for key in keys:
            self.values.pop(key, None)

    def _alive(self, call: str) -> None:
        self.calls.append(call)
        if self.dead_at in (call, "now"):
            self.dead_at = "now"
            raise StoreError("data system: RPC unavailable")


class Tensors:
    """Named tensors; their bytes are what counts."""

    def __init__(self, **sizes: int) -> None:
        self.specs = tuple(
            TensorSpec(name, (size // 4,), "torch.float32", size) for name, size in sizes.items()
        )
        self.data = [bytearray(b"\xee" * size) for size in sizes.values()]

    def fill(self) -> None:
        """What a load from disk does."""
        for index, data in enumerate(self.data):
            data[:] = (hashlib.sha256(bytes([index])).digest() * (len(data) // 32 + 1))[: len(data)]

    @property
    def untouched(self) -> bool:
        return all(set(data) <= {0xEE} for data in self.data)

    @property
    def filled(self) -> bool:
        other = Tensors(**{spec.name: spec.bytes for spec in self.specs})
        other.fill()
        return other.data == self.data

    def write(self, tensor: int, start: int, data: memoryview) -> None:
        self.data[tensor][start : start + data.nbytes] = data

    def read(self, tensor: int, start: int, into: memoryview) -> None:
        into[:] = self.data[tensor][start : start + into.nbytes]

    def transport(self, store: FakeStore) -> HostTransport:
        return HostTransport(store, self, self.specs, 100, 3600, checksum)
