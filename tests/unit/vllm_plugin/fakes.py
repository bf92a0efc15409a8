"""A data system in memory, which fails when a test says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pdinfra_vllm.yuanrong import native, values
from pdinfra_vllm.yuanrong.client import Store


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeClient:
    """What ``native.NativeClient`` promises, over a dict."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.stored: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.fault: Exception | None = None
        self.faulty: set[str] = {"write", "read", "exist", "delete"}
        self.seconds = 0.0

    def write(self, items: Sequence[tuple[str, Sequence[values.Buffer]]]) -> None:
        self._call("write")
        for key, parts in items:
            value = bytearray(values.HEADER_SIZE + values.size_of(parts))
            values.write(key, parts, memoryview(value))
            self.stored[key] = bytes(value)

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, memoryview]]:
        self._call("read")
        return iter([(key, memoryview(self.stored[key])) for key in keys if key in self.stored])

    def exist(self, keys: Sequence[str]) -> list[bool]:
        self._call("exist")
        return [key in self.stored for key in keys]

    def delete(self, keys: Sequence[str]) -> None:
        self._call("delete")
        for key in keys:
            self.stored.pop(key, None)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name not in self.faulty:
            return
        self.clock.now += self.seconds
        if self.fault is not None:
            raise self.fault


class World:
    """A store on a fake data system, and the means to break it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.client = FakeClient(self.clock)
        self.listening = True
        self.connections = 0
        self.store = self.new_store()

    def new_store(self) -> Store:
        return Store(
            "127.0.0.1:31501",
            connect=self._connect,
            reachable=lambda: self.listening,
            clock=self.clock,
        )

    def _connect(self) -> native.Client:
        self.connections += 1
        return self.client
