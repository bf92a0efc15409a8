"""Keys are equal if and only if everything that decides a block's KV is."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from pdinfra_vllm.yuanrong import keys

ENGINE = keys.fingerprint({"weights": "a"})
tokens = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40)
sizes = st.integers(1, 8)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False).filter(abs)
)


@given(tokens, sizes)
def test_every_full_block_has_a_hash_of_its_own(prompt: list[int], size: int) -> None:
    hashes = keys.chain(ENGINE, prompt, size)
    assert len(hashes) == len(prompt) // size == len(set(hashes))


@given(tokens, tokens, sizes)
def test_equal_prefix_has_equal_hashes(prefix: list[int], rest: list[int], size: int) -> None:
    whole = keys.chain(ENGINE, prefix + rest, size)
    assert whole[: len(prefix) // size] == keys.chain(ENGINE, prefix, size)


@given(tokens, sizes, st.data())
def test_another_token_changes_its_block_and_all_after_it(
    prompt: list[int], size: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(prompt) - 1))
    other = [*prompt]
    other[index] = data.draw(st.integers(0, 2**32 - 1).filter(lambda token: token != prompt[index]))
    before, after = keys.chain(ENGINE, prompt, size), keys.chain(ENGINE, other, size)
    block = index // size
    assert before[:block] == after[:block]
    assert set(before[block:]).isdisjoint(after[block:])


@given(
    st.dictionaries(st.text(), scalars, max_size=4),
    st.dictionaries(st.text(), scalars, max_size=4),
    tokens,
)
def test_another_fact_changes_every_hash(
    facts: dict[str, keys.Scalar], others: dict[str, keys.Scalar], prompt: list[int]
) -> None:
    one, two = keys.fingerprint(facts), keys.fingerprint(others)
    # repr tells apart what == does not: 1, 1.0 and True.
    if sorted(map(repr, facts.items())) == sorted(map(repr, others.items())):
        assert one == two
        return
    assert one != two
    assert set(keys.chain(one, prompt, 1)).isdisjoint(keys.chain(two, prompt, 1))


@given(tokens, st.one_of(st.none(), st.text()), st.one_of(st.none(), st.text()))
def test_salts_keep_requests_apart(prompt: list[int], one: str | None, two: str | None) -> None:
    hashes = keys.chain(ENGINE, prompt, 1, one), keys.chain(ENGINE, prompt, 1, two)
    assert (hashes[0] == hashes[1]) == (one == two)


@given(tokens, sizes, sizes)
def test_block_sizes_share_nothing(prompt: list[int], one: int, two: int) -> None:
    shared = set(keys.chain(ENGINE, prompt, one)) & set(keys.chain(ENGINE, prompt, two))
    assert one == two or not shared


def test_keys_differ_by_rank_and_are_what_the_data_system_takes() -> None:
    hashes = keys.chain(ENGINE, [1, 2, 3], 1)
    names = [keys.keys(hashes, keys.rank_name(*rank)) for rank in ((0, 0), (0, 1), (1, 0), (11, 0))]
    flat = [name for rank in names for name in rank]
    assert len(set(flat)) == 12
    # The data system's own pattern (0.8.1), up to 255 characters.
    assert all(re.fullmatch(r"[a-zA-Z0-9\-_!@#%^*()+=:;]{1,255}", name) for name in flat)


def test_keys_are_the_same_on_every_machine_and_in_every_process() -> None:
    hashes = keys.chain(keys.fingerprint({"a": 1}), [1, 2, 3, 4], 2)
    assert keys.keys(hashes, "t0p0") == PINNED


PINNED = [
    "pdkv1:t0p0:9172151fb96e72f580aea67d941cc8e82b5f6a3b678938002acb9770b96f6063",
    "pdkv1:t0p0:f14870edee28d0943c897a150aedbfe27b2ba30c6e1dba32e1d2283bcd7483bc",
]
