from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdinfra_vllm.yuanrong_load.manifest import (
    BadManifestError,
    Chunk,
    Manifest,
    TensorSpec,
    check,
    load,
    pieces,
    sizes,
)

TENSORS = (
    TensorSpec("embed", (3, 4), "torch.float32", 48),
    TensorSpec("norm", (4,), "torch.float32", 16),
)
MANIFEST = Manifest("0123456789ab", "host", TENSORS, (Chunk("k-0", 64, "aa"),))


def _specs(lengths: list[int]) -> list[TensorSpec]:
    return [TensorSpec(str(i), (size,), "torch.uint8", size) for i, size in enumerate(lengths)]


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 40))
def test_every_byte_of_every_tensor_is_in_one_place(lengths: list[int], chunk: int) -> None:
    chunks = list(pieces(_specs(lengths), chunk))
    assert [sum(piece.length for piece in parts) for parts in chunks] == sizes(
        _specs(lengths), chunk
    )
    bytes_of = [
        (piece.tensor, piece.start + i)
        for parts in chunks
        for piece in parts
        for i in range(piece.length)
    ]
    assert bytes_of == [(i, byte) for i, size in enumerate(lengths) for byte in range(size)]
    for parts in chunks:
        places = [piece.at + i for piece in parts for i in range(piece.length)]
        assert places == list(range(len(places)))


def test_a_manifest_survives_the_way_through_the_data_system() -> None:
    assert load(MANIFEST.dump()) == MANIFEST


def test_no_end_of_a_manifest_passes_for_a_whole_one() -> None:
    raw = MANIFEST.dump()
    for end in range(len(raw)):
        with pytest.raises(BadManifestError):
            load(raw[:end])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("tensors", {"embed": 1}),
        ("tensors", [{"name": "embed"}]),
        ("chunks", [{"key": 7, "bytes": 1, "checksum": "a"}]),
        ("chunks", [{"key": "k", "bytes": -1, "checksum": "a"}]),
        ("chunks", [{"key": "k", "bytes": True, "checksum": "a"}]),
        ("transport", None),
    ],
)
def test_a_damaged_manifest(name: str, value: Any) -> None:
    with pytest.raises(BadManifestError):
        load(json.dumps({**json.loads(MANIFEST.dump()), name: value}).encode())


def test_it_fits_the_models_own_tensors() -> None:
    check(MANIFEST, TENSORS, "host")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([*TENSORS, TensorSpec("bias", (1,), "torch.float32", 4)], "not published, e.g. bias"),
        (TENSORS[:1], "not this model's, e.g. norm"),
        ([replace(TENSORS[0], dtype="torch.int32"), TENSORS[1]], "embed is torch.float32"),
        ([replace(TENSORS[0], shape=(4, 3)), TENSORS[1]], r"embed is torch.float32\[3, 4\]"),
        (TENSORS[::-1], "another order"),
    ],
)
def test_it_does_not_fit(tensors: list[TensorSpec], message: str) -> None:
    with pytest.raises(BadManifestError, match=message):
        check(MANIFEST, tensors, "host")


def test_what_another_way_published_does_not_fit() -> None:
    with pytest.raises(BadManifestError, match="published for transport host, not device"):
        check(MANIFEST, TENSORS, "device")
