"""Listeners that stand in for containers, and connections to them: with real sockets."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from plugins.modules import pd_probe


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tried(port: int) -> str:
    (state,) = pd_probe.connect([{"address": "127.0.0.1", "port": port}], 2).values()
    return state


def test_listener_stands_in_until_it_is_stopped_and_the_port_can_be_bound_again() -> None:
    port = free_port()
    endpoint = {"address": "127.0.0.1", "port": port}
    assert tried(port) == "refused"
    token, shut = pd_probe.listen([endpoint], 30)
    try:
        assert shut == {}
        assert [tried(port) for _ in range(3)] == ["open"] * 3
    finally:
        pd_probe.stop(token)
    assert tried(port) == "refused"
    with socket.socket() as engine:
        # Without SO_REUSEADDR: nothing of the probe may linger on the port.
        engine.bind(("127.0.0.1", port))


def test_listener_ends_by_itself() -> None:
    port = free_port()
    pd_probe.listen([{"address": "127.0.0.1", "port": port}], 1)
    held = socket.create_connection(("127.0.0.1", port), timeout=10)
    # Open as long as the listener lives.
    with held, pytest.raises(ConnectionResetError):
        held.recv(1)
    assert tried(port) == "refused"


def test_port_in_use_needs_no_listener_and_a_foreign_address_says_why() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        token, shut = pd_probe.listen(
            [{"address": "127.0.0.1", "port": port}, {"address": "192.0.2.1", "port": 1}], 30
        )
    assert token == ""
    assert shut == {"192.0.2.1:1": "Cannot assign requested address"}


def test_listener_that_is_gone_is_no_fault() -> None:
    pd_probe.stop("0123456789abcdef")


def test_checksums_are_kept_until_a_file_changes(tmp_path: Path) -> None:
    weights, cache = tmp_path / "model.safetensors", tmp_path / "new" / "checksums.json"
    weights.write_bytes(b"one")
    paths = [str(weights), str(tmp_path / "gone")]
    first = pd_probe.checksums(paths, str(cache))
    assert first == {str(weights): hashlib.sha256(b"one").hexdigest()}
    (kept,) = pd_probe.read_cache(str(cache)).values()
    assert kept == first[str(weights)]
    cache.write_text(cache.read_text().replace(kept, "known"))
    assert pd_probe.checksums(paths, str(cache)) == {str(weights): "known"}
    weights.write_bytes(b"other")
    assert pd_probe.checksums(paths, str(cache)) == {
        str(weights): hashlib.sha256(b"other").hexdigest()
    }


def test_cache_that_cannot_be_read_or_written_costs_time_only(tmp_path: Path) -> None:
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"one")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for cache in (str(broken), str(weights / "below" / "c.json"), ""):
        assert len(pd_probe.checksums([str(weights)], cache)) == 1


def test_module_uses_nothing_but_the_standard_library_and_ansible() -> None:
    source = Path(str(pd_probe.__file__)).read_text(encoding="utf-8")
    for foreign in ("import docker", "import requests", "from pdinfra", "import pydantic"):
        assert foreign not in source
