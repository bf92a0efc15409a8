"""The data system's client: what is refused before it is imported, and what its errors become."""

from __future__ import annotations

import socket
import sys
import types
from typing import Any

import pytest

from pdinfra_vllm.yuanrong_load.store import DataSystem, StoreError


class Client:
    """KVClient's answers of 0.8.1."""

    error = ""

    def __init__(self, host: str, port: int, **named: int) -> None:
        assert named == {"connect_timeout_ms": 3000, "req_timeout_ms": 3000}

    def init(self) -> None:
        pass

    def exist(self, keys: list[str]) -> list[bool]:
        assert len(keys) <= 1000
        if self.error:
            raise RuntimeError(self.error)
        return [key == "there" for key in keys]

    def msettx(self, keys: list[str], vals: list[bytes], **named: Any) -> None:
        assert named == {"ttl_second": 60, "existence_opt": "NX"}
        if self.error:
            raise RuntimeError(self.error)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return a port that answers; the package is installed."""
    client = types.ModuleType("yr.datasystem.kv_client")
    monkeypatch.setattr(client, "KVClient", Client, raising=False)
    monkeypatch.setattr(client, "ExistenceOpt", types.SimpleNamespace(NX="NX"), raising=False)
    for name in ("yr", "yr.datasystem"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "yr.datasystem.kv_client", client)
    monkeypatch.setattr(Client, "error", "")
    monkeypatch.setattr(socket, "create_connection", lambda *_: socket.socket())
    return 31501


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(StoreError, match=f"no data-system worker at 127.0.0.1:{port}: .*refused"):
        DataSystem("127.0.0.1", port, 500, 3000)


def test_nixl_in_the_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nixl_cu12", types.ModuleType("nixl_cu12"))
    with pytest.raises(StoreError, match="NIXL"):
        DataSystem("127.0.0.1", 1, 500, 3000)


def test_many_keys_are_asked_in_parts(port: int) -> None:
    found = DataSystem("127.0.0.1", port, 500, 3000).exist(["there", *["no"] * 2500])
    assert found == [True, *[False] * 2500]


def test_a_key_that_is_there_is_no_error(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DataSystem("127.0.0.1", port, 500, 3000)
    assert store.put_new("k", b"v", 60)
    monkeypatch.setattr(Client, "error", "code: [Object already exist error], msg: [object[m] ...]")
    assert not store.put_new("k", b"v", 60)


def test_an_error_is_one_short_line(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DataSystem("127.0.0.1", port, 500, 3000)
    monkeypatch.setattr(Client, "error", "code: [RPC unavailable], msg: [[RPC_RECV_TIMEOUT]\nmore")
    with pytest.raises(StoreError) as raised:
        store.exist(["k"])
    assert str(raised.value) == "data system: RPC unavailable"
    with pytest.raises(StoreError, match="RPC unavailable"):
        store.put_new("k", b"v", 60)
