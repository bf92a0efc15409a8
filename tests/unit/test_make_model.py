from __future__ import annotations

import json
import struct
from math import isfinite, prod
from pathlib import Path
from random import Random

import pytest

from benchmarks import make_model


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"HIDDEN": 24, "HEADS": 6, "KV_HEADS": 2, "INTERMEDIATE": 96, "SHARD": 100_000}
    for name, value in sizes.items():
        monkeypatch.setattr(make_model, name, value)


@pytest.mark.usefixtures("small")
def test_files_index_and_sizes_agree(tmp_path: Path) -> None:
    out = tmp_path / "model"
    total = make_model.write_model(out, 300_000, "bfloat16", seed=0)
    assert total >= 300_000
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == total
    found: dict[str, str] = {}
    for file in sorted(out.glob("*.safetensors")):
        raw = file.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        del header["__metadata__"]
        for tensor in header.values():
            begin, end = tensor["data_offsets"]
            assert end - begin == 2 * prod(tensor["shape"])
        assert len(raw) == 8 + length + max(t["data_offsets"][1] for t in header.values())
        found |= dict.fromkeys(header, file.name)
    assert found == index["weight_map"]
    assert len(set(found.values())) > 1
    layers = json.loads((out / "config.json").read_text())["num_hidden_layers"]
    assert f"model.layers.{layers - 1}.mlp.down_proj.weight" in found


@pytest.mark.usefixtures("small")
def test_the_same_seed_writes_the_same_model(tmp_path: Path) -> None:
    files = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        make_model.write_model(tmp_path / name, 1, "float32", seed)
        files.append((tmp_path / name / "model-00001-of-00001.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_values_are_small_and_of_both_signs() -> None:
    drawn = struct.unpack("<1000f", make_model.values((10, 100), "float32", Random(0)))
    assert all(isfinite(value) and 2**-6 <= abs(value) < 2**-5 for value in drawn)
    assert 300 < sum(value > 0 for value in drawn) < 700
    assert len(set(drawn)) > 900


def test_norms_are_ones() -> None:
    assert struct.unpack("<3f", make_model.values((3,), "float32", None)) == (1.0, 1.0, 1.0)
