"""Which blocks are loaded and saved, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from pdinfra_vllm.yuanrong import keys
from pdinfra_vllm.yuanrong.planner import Planner
from tests.unit.vllm_plugin.fakes import Clock

ENGINE = keys.fingerprint({})
SIZE = 4
TOKENS = list(range(18))  # four full blocks and two tokens
HASHES = keys.chain(ENGINE, TOKENS, SIZE)


class Lookups:
    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.asked = 0

    def exist(self, keys: Sequence[str]) -> list[bool]:
        self.asked += 1
        return [key in self.stored for key in keys]


class Engine:
    def __init__(self, saves: bool = True, ranks: Sequence[str] = ("t0p0",)) -> None:
        self.clock = Clock()
        self.lookups = Lookups()
        self.planner = Planner(self.lookups, ENGINE, SIZE, ranks, saves, self.clock)
        self.planner.add("r", TOKENS, None)

    def store(self, *indexes: int, rank: str = "t0p0") -> None:
        self.lookups.stored.update(keys.keys([HASHES[index] for index in indexes], rank))


def ids(request_id: str) -> list[int]:
    return [10, 11, 12, 13, 14]


def test_only_the_leading_blocks_count() -> None:
    engine = Engine()
    engine.store(0, 1, 3)
    assert engine.planner.stored_tokens("r", 0) == 8
    assert engine.planner.stored_tokens("r", 4) == 4
    assert engine.planner.stored_tokens("r", 8) == 0
    assert engine.planner.stored_tokens("unknown", 0) == 0


def test_a_block_counts_when_all_ranks_have_it() -> None:
    engine = Engine(ranks=("t0p0", "t1p0"))
    engine.store(0, 1, 2)
    assert engine.planner.stored_tokens("r", 0) == 0
    engine.store(0, 1, rank="t1p0")
    engine.clock.now += 2
    assert engine.planner.stored_tokens("r", 0) == 8


def test_the_same_question_is_not_asked_in_every_step() -> None:
    engine = Engine()
    engine.store(0)
    for _ in range(3):
        assert engine.planner.stored_tokens("r", 0) == 4
    assert engine.lookups.asked == 1
    engine.clock.now += 2
    engine.planner.stored_tokens("r", 0)
    assert engine.lookups.asked == 2


def test_a_load_names_the_blocks_after_the_computed_ones() -> None:
    engine = Engine()
    engine.store(0, 1, 2)
    assert engine.planner.stored_tokens("r", 4) == 8
    engine.planner.load("r", ids("r"), 8)
    step = engine.planner.step({}, ids)
    assert [(load.request_id, load.hashes, load.block_ids) for load in step.loads] == [
        ("r", HASHES[1:3], [11, 12])
    ]
    assert engine.planner.step({}, ids).loads == []


def test_blocks_are_saved_as_chunks_of_the_prompt_make_them_full() -> None:
    engine = Engine()
    saved = [
        (save.hashes, save.block_ids)
        for computed in (3, 9, 9, 18, 19)
        for save in engine.planner.step({"r": computed}, ids).saves
    ]
    assert saved == [(HASHES[:2], [10, 11]), (HASHES[2:], [12, 13])]


def test_a_consumer_saves_nothing() -> None:
    assert Engine(saves=False).planner.step({"r": 18}, ids).saves == []


def test_a_failed_load_is_not_tried_again() -> None:
    engine = Engine()
    engine.store(0, 1)
    engine.planner.stored_tokens("r", 0)
    engine.planner.load("r", ids("r"), 8)
    engine.planner.loaded({"r"}, {11})
    assert engine.planner.stored_tokens("r", 0) == 0


def test_a_good_load_may_be_needed_again_after_preemption() -> None:
    engine = Engine()
    engine.store(0, 1)
    engine.planner.stored_tokens("r", 0)
    engine.planner.load("r", ids("r"), 8)
    engine.planner.loaded({"r"}, {99})
    assert engine.planner.stored_tokens("r", 0) == 8
    assert engine.lookups.asked == 2


def test_a_request_that_ended_is_forgotten() -> None:
    engine = Engine()
    engine.store(0)
    engine.planner.stored_tokens("r", 0)
    engine.planner.load("r", ids("r"), 4)
    engine.planner.remove("r")
    engine.planner.loaded({"r"}, {10})
    assert engine.planner.step({"r": 18}, ids).saves == []


def test_a_prompt_of_less_than_a_block_costs_nothing() -> None:
    engine = Engine()
    engine.planner.add("short", [1, 2, 3], None)
    assert engine.planner.stored_tokens("short", 0) == 0
    assert engine.lookups.asked == 0
