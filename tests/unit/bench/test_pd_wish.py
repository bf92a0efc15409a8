"""What `bench pd` is asked for: shapes, concurrencies, datasets that share nothing."""

from __future__ import annotations

import pytest

from pdinfra.bench.dataset import generate
from pdinfra.bench.pd_wish import PdWish, concurrencies, default_shapes, shapes
from pdinfra.model.inventory import Accelerator

WISH = PdWish(((64, 8), (128, 4)), (1, 4), 8, 42, 10)


def test_lists_are_read() -> None:
    assert shapes("1024x16, 64x128") == ((1024, 16), (64, 128))
    assert concurrencies("1, 8") == (1, 8)


@pytest.mark.parametrize("text", ["", "1024", "1024x", "8x16", "64x1", "64x8,64x8", "axb", "1x2x3"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--shapes .*Fix: give input x output tokens"):
        shapes(text)


@pytest.mark.parametrize("text", ["", "0", "1,1", "one", "1;2"])
def test_what_is_no_concurrency_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--concurrency .*Fix: give requests at a time"):
        concurrencies(text)


def test_every_shape_meets_every_concurrency() -> None:
    assert [cell.label for cell in WISH.cells] == ["64x8 c1", "64x8 c4", "128x4 c1", "128x4 c4"]
    assert WISH.most_minutes == 80


def test_defaults_go_from_prefill_heavy_to_decode_heavy_and_are_small_on_cpu() -> None:
    accelerators: tuple[Accelerator, ...] = ("cpu", "ascend")
    for accelerator in accelerators:
        shares = [
            output / (prompt + output) for prompt, output in shapes(default_shapes(accelerator))
        ]
        assert shares == sorted(shares)
    assert shapes(default_shapes("cpu"))[0][0] < shapes(default_shapes("nvidia"))[0][0]


def test_all_that_is_wrong_is_told() -> None:
    wish = PdWish(((64, 8),), (16,), 8, -1, 0)
    starts = ["--prompts 8: so many cannot be 16 at a time", "--seed -1", "--max-minutes 0"]
    lines = wish.problems()
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 3
    assert all("Fix: " in line for line in lines)


def test_a_shape_that_the_model_does_not_take_is_told() -> None:
    (line,) = WISH.too_long(100)
    assert line.startswith("--shapes 128x4: the model takes 100 tokens")
    assert WISH.too_long(1000) == []


def test_no_prompt_begins_as_another_and_each_cell_has_its_own() -> None:
    sets = [generate(WISH.dataset(number, 2.0)) for number in range(len(WISH.cells))]
    starts = [prompt[:12] for prompts in sets for prompt in prompts]
    assert len(set(starts)) == len(WISH.cells) * WISH.prompts
    assert len(sets[0][0].split()) == 32
    assert sets == [generate(WISH.dataset(number, 2.0)) for number in range(len(WISH.cells))]
