"""A store never raises for the data system's faults, and they cost next to nothing."""

from __future__ import annotations

import socket

import pytest

from pdinfra_vllm.yuanrong import client, native
from pdinfra_vllm.yuanrong.client import Store
from tests.unit.vllm_plugin.fakes import World

GONE = native.UnavailableError("gone")


def test_what_was_put_can_be_had(world: World) -> None:
    assert world.store.put({"a": b"one", "b": [b"t", memoryview(b"wo")]}) == set()
    assert world.store.get(["a", "x", "b"]) == {"a": b"one", "b": b"two"}
    assert world.store.exist(["a", "x"]) == [True, False]
    counters = world.store.counters
    assert (counters.stored, counters.stored_bytes) == (2, 6)
    assert (counters.loaded, counters.loaded_bytes, counters.missing) == (2, 6, 1)


def test_many_and_big_values_go_in_several_calls(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_BATCH_BYTES", 10)
    assert world.store.put(dict.fromkeys("abcde", b"12345") | {"big": bytes(50)}) == set()
    assert world.client.calls.count("write") == 4
    assert set(world.client.stored) == {*"abcde", "big"}


@pytest.mark.parametrize(
    "damage", [lambda value: b"", lambda value: value[:-1], lambda value: value[:-1] + b"!"]
)
def test_a_damaged_value_is_missing_and_removed(world: World, damage: object) -> None:
    assert callable(damage)
    world.store.put({"a": b"one", "b": b"two"})
    world.client.stored["a"] = damage(world.client.stored["a"])
    assert world.store.get(["a", "b"]) == {"b": b"two"}
    assert world.store.counters.damaged == 1
    # Or nobody would store it again: it would be found.
    assert world.store.exist(["a"]) == [False]


def test_a_dead_data_system_is_asked_once_per_pause(world: World) -> None:
    world.store.put({"a": b"one"})
    world.client.fault = GONE
    calls = len(world.client.calls)
    for _ in range(5):
        assert world.store.exist(["a"]) == [False]
        assert world.store.get(["a"]) == {}
        assert world.store.put({"b": b"two"}) == {"b"}
    assert len(world.client.calls) == calls + 1
    assert world.store.counters.failures == 1
    assert world.store.counters.skipped == 14


def test_a_worker_that_does_not_listen_is_not_called_at_all(world: World) -> None:
    world.store.put({"a": b"one"})
    world.listening = False
    world.clock.now += 1
    calls = len(world.client.calls)
    assert world.store.exist(["a"]) == [False]
    assert len(world.client.calls) == calls


def test_it_works_again_after_the_pause(world: World) -> None:
    world.store.put({"a": b"one"})
    world.client.fault = GONE
    assert world.store.get(["a"]) == {}
    world.client.fault = None
    assert world.store.get(["a"]) == {}
    world.clock.now += 1.1
    assert world.store.get(["a"]) == {"a": b"one"}


def test_pauses_grow_to_half_a_minute_and_start_anew(world: World) -> None:
    world.client.fault = GONE
    for pause in (1, 2, 4, 8, 16, 30, 30):
        world.store.exist(["a"])
        world.clock.now += pause - 0.1
        assert not world.store.available
        world.clock.now += 0.2
        assert world.store.available
    world.client.fault = None
    world.store.exist(["a"])
    world.client.fault = GONE
    world.store.exist(["a"])
    world.clock.now += 1.1
    assert world.store.available


def test_a_full_data_system_can_still_be_read(world: World) -> None:
    world.store.put({"a": b"one"})
    world.client.fault, world.client.faulty = native.FullError("full"), {"write"}
    assert world.store.put({"b": b"two"}) == {"b"}
    assert world.store.put({"b": b"two"}) == {"b"}
    assert world.client.calls.count("write") == 2
    assert world.store.get(["a"]) == {"a": b"one"}


def test_values_that_cannot_be_read_do_not_exist(world: World) -> None:
    """A look-up asks the keys' owner, which lives; the host of the values is gone."""
    world.store.put({"a": b"one"})
    world.client.fault, world.client.faulty = GONE, {"read"}
    assert world.store.exist(["a"]) == [True]
    assert world.store.get(["a"]) == {}
    assert world.store.exist(["a"]) == [False]


def test_a_call_that_used_up_its_time_is_a_fault_whatever_it_says(world: World) -> None:
    world.store.put({"a": b"one"})
    world.client.seconds, world.client.faulty = 1.9, {"read"}
    assert world.store.get(["a"]) == {"a": b"one"}
    assert world.store.get(["a"]) == {}
    assert world.store.counters.failures == 1


def test_a_key_that_exists_with_other_options_is_replaced(world: World) -> None:
    world.client.stored["a"] = b"foreign"
    world.client.fault, world.client.faulty = native.RefusedError("other options"), {"write"}

    def forget(keys: object) -> None:
        world.client.stored.clear()
        world.client.fault = None

    world.client.delete = forget  # type: ignore[method-assign]
    assert world.store.put({"a": b"one"}) == set()
    assert world.store.get(["a"]) == {"a": b"one"}


def test_a_key_that_is_refused_for_good_costs_only_itself(world: World) -> None:
    world.client.fault, world.client.faulty = native.RefusedError("bad key"), {"write"}
    assert world.store.put({"a b": b"one"}) == {"a b"}
    world.client.fault = None
    assert world.store.put({"a": b"one"}) == set()


def test_an_engine_starts_before_its_data_system(world: World) -> None:
    world.listening = False
    store = world.new_store()
    assert store.exist(["a"]) == [False]
    world.listening = True
    world.clock.now += 31
    assert store.put({"a": b"one"}) == set()


@pytest.mark.parametrize("address", ["", "host", ":1", "host:", "host:0", "host:65536", "host:x"])
def test_another_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Store(address)


def test_a_port_tells_whether_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        assert client._accepts_connections(host, port)
    assert not client._accepts_connections(host, port)
