"""Parameters of `bench ttft`: every bad one is named, at once; each length has its own data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pdinfra.bench.dataset import generate
from pdinfra.bench.wish import Wish, lengths

GOOD = Wish((500, 1000), 3, 4, 25, 42, 8, 2, 30)


def test_good_parameters_have_no_problem() -> None:
    assert GOOD.problems() == []


def test_all_bad_parameters_are_told_at_once_each_with_its_fix() -> None:
    found = Wish((500,), 0, -1, 100, -1, 0, 0, 0).problems()
    named = [line.split(" ")[0] for line in found]
    assert named == [
        "--groups", "--prompts", "--concurrency", "--output-tokens",
        "--shared", "--seed", "--max-minutes",
    ]  # fmt: skip
    assert all("Fix: use " in line for line in found)


def test_lengths_are_read() -> None:
    assert lengths("1000, 2000,4000") == (1000, 2000, 4000)


@pytest.mark.parametrize("text", ["", "1k", "1000,", "-5", "1000,1000", "15", "1e3", "²", "9" * 99])
def test_lengths_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--lengths .*Fix: give numbers"):
        lengths(text)


def test_words_follow_the_models_tokenizer() -> None:
    shapes = GOOD.shapes(tokens_per_word=4.0)
    assert [(s.prefix_words, s.suffix_words) for s in shapes.values()] == [(31, 94), (62, 188)]


def test_a_longer_prompt_does_not_begin_as_a_shorter_one() -> None:
    short, long = GOOD.shapes(4.0).values()
    begins = {prompt[:20] for prompt in generate(short)}
    assert not begins & {prompt[:20] for prompt in generate(long)}


def test_a_prompt_keeps_something_of_its_own() -> None:
    shape = replace(GOOD, lengths=(16,), shared=99).shapes(5.0)[16]
    assert (shape.prefix_words, shape.suffix_words) == (2, 1)


def test_lengths_that_the_model_does_not_take_are_told_before_any_load() -> None:
    (line,) = replace(GOOD, lengths=(500, 2040)).too_long(2048)
    assert line.startswith("--lengths 2040: the model takes 2048 tokens with the answer. Fix: ")
    room = int(line.split("at most ")[1].split(",")[0])
    assert replace(GOOD, lengths=(room,)).too_long(2048) == []
    assert replace(GOOD, lengths=(room + 1,)).too_long(2048) != []
