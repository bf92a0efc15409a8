from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pdinfra_vllm.yuanrong_load.identity import UnknownModelError, model_digest

SIZE = 20_000


def _write(directory: Path, first: bytes, second: bytes = bytes(SIZE)) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text('{"model_type": "qwen2"}')
    tensors = {
        name: {"dtype": "U8", "shape": [SIZE], "data_offsets": [at, at + SIZE]}
        for name, at in (("first", 0), ("second", SIZE))
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    body = len(header).to_bytes(8, "little") + header + first + second
    (directory / "model.safetensors").write_bytes(body)
    return directory


def test_a_copy_elsewhere_is_the_same_model(tmp_path: Path) -> None:
    one, two = (_write(tmp_path / name, b"a" * SIZE) for name in ("one", "two"))
    os.utime(two / "model.safetensors", (1, 1))
    assert model_digest(one) == model_digest(two)


def test_other_values_are_another_model_though_headers_and_sizes_are_equal(tmp_path: Path) -> None:
    digests = {
        model_digest(_write(tmp_path / "base", b"a" * SIZE)),
        model_digest(_write(tmp_path / "tuned", b"b" * SIZE)),
        model_digest(_write(tmp_path / "tuned too", b"a" * SIZE, b"b" * SIZE)),
    }
    assert len(digests) == 3


def test_another_configuration_is_another_model(tmp_path: Path) -> None:
    one = model_digest(_write(tmp_path / "one", b"a" * SIZE))
    (tmp_path / "one" / "config.json").write_text("{}")
    assert model_digest(tmp_path / "one") != one


def test_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnknownModelError, match="no safetensors"):
        model_digest(tmp_path)


@pytest.mark.parametrize("size", [4, 100, SIZE])
def test_a_file_that_is_cut_off(tmp_path: Path, size: int) -> None:
    file = _write(tmp_path / "one", b"a" * SIZE) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UnknownModelError):
        model_digest(tmp_path / "one")
