"""What an engine was told on its command line."""

from __future__ import annotations

import pytest

from pdinfra.doctor.told import memory_share, option
from pdinfra.model.plan import ContainerSpec
from tests.unit.builders import plan, specs


def told(*words: str) -> ContainerSpec:
    return specs(plan())["prefill-a-0"].model_copy(update={"command": ("vllm", "serve", *words)})


def test_last_word_counts_in_either_form() -> None:
    assert option(told("--dtype", "auto", "--dtype=float16"), "dtype") == "float16"
    assert option(told("--dtype=float16", "--dtype", "auto"), "dtype") == "auto"


def test_option_that_only_begins_alike_is_another() -> None:
    assert option(told("--dtype-of-something", "x"), "dtype") == ""
    assert option(told("--kv-cache-dtype", "fp8"), "dtype") == ""


@pytest.mark.parametrize("words", [(), ("--gpu-memory-utilization", "much")])
def test_share_that_is_not_told_is_vllms(words: tuple[str, ...]) -> None:
    assert memory_share(told(*words)) == 0.92


def test_share_is_the_one_that_was_told() -> None:
    assert memory_share(told("--gpu-memory-utilization", "0.75")) == 0.75
