from __future__ import annotations

import re

import pytest

from pdinfra_vllm.yuanrong_load.names import names

FACTS = {"model": "abc", "dtype": "torch.float32", "tp": [0, 2], "quantization": None}


def test_the_same_facts_have_the_same_names_in_any_order() -> None:
    assert names(FACTS) == names(dict(reversed(list(FACTS.items()))))


@pytest.mark.parametrize(
    "other",
    [{"model": "abd"}, {"dtype": "torch.bfloat16"}, {"tp": [1, 2]}, {"quantization": "fp8"}],
)
def test_every_fact_counts(other: dict[str, object]) -> None:
    assert names({**FACTS, **other}).manifest != names(FACTS).manifest


def test_keys_are_ones_that_the_data_system_takes() -> None:
    mine = names(FACTS)
    for key in (mine.manifest, mine.claim, mine.chunk("0123456789ab", 12)):
        assert re.fullmatch(r"[a-z0-9-]{1,255}", key)
        assert mine.own(key)
    assert not mine.own(names({}).manifest)
