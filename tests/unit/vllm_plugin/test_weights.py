"""A model's digest follows its content, not its place."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pdinfra_vllm.yuanrong import weights

MIB = 1024 * 1024


def write_model(directory: Path, tensors: dict[str, bytes], config: str = "{}") -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(config)
    entries, start = {}, 0
    for name, content in tensors.items():
        entries[name] = {
            "dtype": "U8",
            "shape": [len(content)],
            "data_offsets": [start, start + len(content)],
        }
        start += len(content)
    header = json.dumps(entries).encode()
    (directory / "model.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + b"".join(tensors.values())
    )
    return directory


TENSORS = {"big": bytes(3 * MIB), "norm": bytes(64)}


def test_copies_have_one_digest(tmp_path: Path) -> None:
    one, two = (write_model(tmp_path / name, TENSORS) for name in "ab")
    assert weights.digest(one) == weights.digest(two)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: write_model(path, {**TENSORS, "norm": b"\1" + bytes(63)}),
        lambda path: write_model(path, {**TENSORS, "big": b"\1" * 3 * MIB}),
        lambda path: write_model(path, {**TENSORS, "big": bytes(2 * MIB) + b"\1" * MIB}),
        lambda path: write_model(path, {"big": TENSORS["big"], "bias": TENSORS["norm"]}),
        lambda path: write_model(path, {"big": TENSORS["big"]}),
        lambda path: write_model(path, TENSORS, '{"rope_theta": 1}'),
    ],
)
def test_another_model_has_another_digest(tmp_path: Path, change: Callable[[Path], Path]) -> None:
    assert weights.digest(write_model(tmp_path / "a", TENSORS)) != weights.digest(
        change(tmp_path / "b")
    )


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(weights.UnknownWeightsError, match="no config"):
        weights.digest(tmp_path / "nothing")
    broken = write_model(tmp_path / "broken", TENSORS)
    (broken / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(weights.UnknownWeightsError, match="not a safetensors file"):
        weights.digest(broken)
