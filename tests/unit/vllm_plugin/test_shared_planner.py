"""Which prompts are loaded and stored through the shared folder, and when."""

from __future__ import annotations

import pytest

from pdinfra_vllm.shared_storage.planner import Planner, Transfer, prompt_name

BLOCK = 32
IDS = list(range(100, 200))


class Folder:
    """A folder that holds what a test says."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)

    def holds(self, prompt: str) -> bool:
        return prompt in self.held


def tokens(count: int) -> list[int]:
    return list(range(5, 5 + count))


def name(count: int, salt: str | None = None) -> str:
    return prompt_name(tokens(count), salt)


def planner(*held: str, stores: bool = True) -> Planner:
    return Planner(Folder(*held), "engine", BLOCK, stores)


@pytest.mark.parametrize("length", [1, 2, 31])
def test_less_than_a_block_is_neither_looked_up_nor_stored(length: int) -> None:
    plan = planner(name(0))
    plan.add("r", tokens(length), None)
    assert plan.stored_tokens("r", 0) == 0
    assert plan.step({"r": length}, lambda _: IDS).stores == []


@pytest.mark.parametrize(
    ("length", "computed", "loaded"),
    [
        (32, 0, 32),
        (33, 0, 32),
        (64, 0, 64),
        (65, 32, 32),
        # What vLLM's own answers with a negative number, which ends the engine.
        (33, 32, 0),
        (65, 64, 0),
        (257, 256, 0),
    ],
)
def test_whole_blocks_that_are_not_computed_are_loaded(
    length: int, computed: int, loaded: int
) -> None:
    plan = planner(name(length // BLOCK * BLOCK))
    plan.add("r", tokens(length), None)
    assert plan.stored_tokens("r", computed) == loaded


def test_what_is_stored_is_found_again_whatever_follows_in_the_last_block() -> None:
    for length in range(64, 96):
        plan = planner()
        plan.add("r", tokens(length), None)
        (stored,) = plan.step({"r": length}, lambda _: IDS).stores
        assert stored == Transfer("r", name(64), 0, [100, 101])


def test_a_load_goes_into_the_blocks_after_the_computed_ones() -> None:
    plan = planner(name(96))
    plan.add("r", tokens(100), None)
    assert plan.stored_tokens("r", 32) == 64
    plan.load("r", IDS[:4], 64)
    step = plan.step({"r": 32}, lambda _: IDS)
    assert step.loads == [Transfer("r", name(96), 1, [101, 102])]
    assert plan.step({}, lambda _: IDS).loads == []


def test_a_prompt_of_several_steps_is_stored_when_it_is_whole() -> None:
    plan = planner()
    plan.add("r", tokens(100), None)
    assert plan.step({"r": 50}, lambda _: IDS).stores == []
    (stored,) = plan.step({"r": 96}, lambda _: IDS).stores
    assert stored.block_ids == [100, 101, 102]
    assert plan.step({"r": 101}, lambda _: IDS).stores == []


def test_what_is_there_is_not_stored_again_and_a_consumer_stores_nothing() -> None:
    for plan in (planner(name(64)), planner(stores=False)):
        plan.add("r", tokens(64), None)
        assert plan.step({"r": 64}, lambda _: IDS).stores == []


def test_a_request_loads_once_so_that_a_damaged_file_is_not_tried_for_ever() -> None:
    plan = planner(name(64))
    plan.add("r", tokens(64), None)
    plan.load("r", IDS, 64)
    assert plan.stored_tokens("r", 0) == 0


def test_requests_that_must_not_share_do_not() -> None:
    plan = planner(name(64, "tenant-a"))
    plan.add("a", tokens(64), "tenant-a")
    plan.add("b", tokens(64), "tenant-b")
    plan.add("none", tokens(64), None)
    assert [plan.stored_tokens(r, 0) for r in ("a", "b", "none")] == [64, 0, 0]


def test_a_request_that_ended_or_was_never_taken_is_nobodys_business() -> None:
    plan = planner(name(64))
    plan.add("r", tokens(64), None)
    plan.remove("r")
    plan.remove("r")
    assert plan.stored_tokens("r", 0) == 0
    assert plan.step({"r": 64}, lambda _: IDS).stores == []
