"""Only a value that is whole and stored for its key has a payload."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdinfra_vllm.yuanrong import values


def value(key: str, parts: list[bytes]) -> bytearray:
    target = bytearray(values.HEADER_SIZE + values.size_of(parts))
    values.write(key, parts, memoryview(target))
    return target


@given(st.text(max_size=20), st.lists(st.binary(max_size=50), max_size=4))
def test_payload_is_what_was_written(key: str, parts: list[bytes]) -> None:
    assert values.payload(key, value(key, parts)) == b"".join(parts)


@given(st.binary(min_size=1, max_size=100), st.data())
def test_no_changed_bit_goes_unnoticed(content: bytes, data: st.DataObject) -> None:
    stored = value("k", [content])
    # All but the two zero fields, which carry nothing.
    carrying = [*range(10), *range(12, 56), *range(values.HEADER_SIZE, len(stored))]
    stored[data.draw(st.sampled_from(carrying))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(values.DamagedError):
        values.payload("k", stored)


@given(st.binary(max_size=100), st.data())
def test_no_other_length_goes_unnoticed(content: bytes, data: st.DataObject) -> None:
    stored = value("k", [content])
    cut = data.draw(st.integers(0, len(stored) - 1))
    for other in (stored[:cut], stored + b"\0"):
        with pytest.raises(values.DamagedError):
            values.payload("k", other)


def test_value_of_another_key_is_damaged() -> None:
    with pytest.raises(values.DamagedError, match="another key"):
        values.payload("b", value("a", [b"x"]))


def test_payload_is_aligned_for_tensors() -> None:
    assert values.HEADER_SIZE % 64 == 0
