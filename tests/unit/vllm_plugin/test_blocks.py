"""Blocks come back as they were saved, or are named as failed."""

from __future__ import annotations

import itertools

import pytest

from pdinfra_vllm.yuanrong import blocks as blocks_module
from pdinfra_vllm.yuanrong import keys
from pdinfra_vllm.yuanrong.blocks import Blocks
from tests.unit.vllm_plugin.fakes import World

HASHES = keys.chain(keys.fingerprint({}), range(4), 1)


def cache(fill: int = 0) -> list[list[memoryview]]:
    """Two layers of six blocks, of 8 and 4 bytes; every block differs."""
    numbers = itertools.count(1)
    return [
        [memoryview(bytearray([next(numbers) * fill] * size)) for _ in range(6)] for size in (8, 4)
    ]


def blocks(world: World, layers: list[list[memoryview]], limit: float = 2.0) -> Blocks:
    return Blocks(world.store, layers, "t0p0", limit, world.clock)


def test_another_engine_loads_what_one_saved(world: World) -> None:
    source, target = cache(3), cache()
    blocks(world, source).save(HASHES[:3], [0, 5, 2])
    assert blocks(world, target).load(HASHES[:3], [4, 1, 3]) == set()
    for layer in (0, 1):
        assert [target[layer][index] for index in (4, 1, 3)] == [
            source[layer][index] for index in (0, 5, 2)
        ]
        assert bytes(target[layer][0]) == bytes(len(target[layer][0]))


def test_gone_and_damaged_blocks_are_named(world: World) -> None:
    blocks(world, cache(3)).save(HASHES, [0, 1, 2, 3])
    names = keys.keys(HASHES, "t0p0")
    del world.client.stored[names[1]]
    world.client.stored[names[2]] = b"garbage"
    assert blocks(world, cache()).load(HASHES, [0, 1, 2, 3]) == {1, 2}


def test_a_value_of_another_size_is_not_used_and_removed(world: World) -> None:
    name = keys.keys(HASHES, "t0p0")[0]
    world.store.put({name: b"whole, but no block"})
    target = cache()
    assert blocks(world, target).load(HASHES[:1], [0]) == {0}
    assert bytes(target[0][0]) == bytes(8)
    assert world.store.exist([name]) == [False]


def test_what_is_stored_is_not_stored_again(world: World) -> None:
    blocks(world, cache(3)).save(HASHES[:2], [0, 1])
    blocks(world, cache(3)).save(HASHES[:3], [0, 1, 2])
    assert world.store.counters.stored == 3


def test_saving_stops_at_its_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "SAVE_CHUNK", 12)
    world.client.seconds, world.client.faulty = 1.5, {"write"}
    saver = blocks(world, cache(3), limit=1.0)
    saver.save(HASHES, [0, 1, 2, 3])
    assert world.store.counters.stored == 1
    assert saver.dropped == 3


def test_ranks_do_not_share(world: World) -> None:
    Blocks(world.store, cache(3), "t0p0", 2.0).save(HASHES[:1], [0])
    assert Blocks(world.store, cache(), "t1p0", 2.0).load(HASHES[:1], [0]) == {0}
