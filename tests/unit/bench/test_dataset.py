"""The dataset: the guide's own lines for the same seed, groups that share a prefix."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdinfra.bench.dataset import Shape, generate, jsonl
from tests.unit.bench import guide

SHAPES = st.builds(
    Shape,
    groups=st.integers(1, 4),
    prompts_per_group=st.integers(1, 5),
    prefix_words=st.integers(0, 6),
    suffix_words=st.integers(1, 6),
    seed=st.integers(0, 2**40),
)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(2, 2, 2048, 6144, 42),
        Shape(3, 4, 100, 50, 42),
        Shape(3, 4, 100, 50, 43),
        Shape(1, 1, 1, 1, 0),
        Shape(5, 10, 0, 7, 7),
    ],
    ids=str,
)
def test_the_file_is_the_guides_own_byte_for_byte(shape: Shape, tmp_path: Path) -> None:
    path = tmp_path / "guide.jsonl"
    guide.main(
        {
            "num_groups": shape.groups,
            "num_prompts_per_group": shape.prompts_per_group,
            "prefix_length": shape.prefix_words,
            "suffix_length": shape.suffix_words,
            "seed": shape.seed,
        },
        str(path),
    )
    assert jsonl(generate(shape)).encode() == path.read_bytes()


@given(shape=SHAPES)
def test_same_parameters_same_lines_whatever_else_draws(shape: Shape) -> None:
    first = generate(shape)
    guide.gen_random_seq(3)
    assert generate(shape) == first
    assert len(first) == shape.size


@given(shape=SHAPES.filter(lambda shape: shape.prefix_words >= 3))
def test_the_prompts_of_a_group_share_its_prefix_and_no_more(shape: Shape) -> None:
    words = [prompt.split(" ") for prompt in generate(shape)]
    assert {len(each) for each in words} == {shape.prefix_words + shape.suffix_words}
    prefixes = Counter(tuple(each[: shape.prefix_words]) for each in words)
    assert list(prefixes.values()) == [shape.prompts_per_group] * shape.groups
    assert len(set(map(tuple, words))) == shape.size


def test_another_seed_gives_other_prompts() -> None:
    mine, other = (set(generate(Shape(2, 2, 5, 5, seed))) for seed in (1, 2))
    assert not mine & other


def test_a_line_is_one_object_with_a_prompt() -> None:
    assert [json.loads(line) for line in jsonl(["a b", "量子"]).splitlines()] == [
        {"prompt": "a b"},
        {"prompt": "量子"},
    ]


def test_what_an_empty_cache_can_know_at_best() -> None:
    assert Shape(2, 4, 50, 50, 0).repeated == pytest.approx(0.375)
    assert Shape(9, 1, 50, 50, 0).repeated == 0
