"""A model directory: what is there, and what is missing of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.reading.model_dir import model_fact

CONFIG = json.dumps({"num_attention_heads": 14, "num_key_value_heads": 2})
WHOLE = {"config.json": 600, "model.safetensors": 1000, "tokenizer.json": 7000}
INDEX = "model.safetensors.index.json"


def read(
    files: dict[str, int], config: str | None = CONFIG, **texts: str
) -> tuple[tuple[str, ...], int, int, int]:
    """Return missing, heads, kv_heads, weight_bytes."""
    raw = {"error": None, "files": files, "texts": {"config.json": config, **texts}}
    fact = model_fact("/srv/m", raw)
    return fact.missing, fact.heads, fact.kv_heads, fact.weight_bytes


def without(name: str) -> dict[str, int]:
    return {file: size for file, size in WHOLE.items() if file != name}


def test_whole_directory_misses_nothing() -> None:
    assert read(WHOLE) == ((), 14, 2, 1000)


def test_directory_that_cannot_be_listed_says_why() -> None:
    fact = model_fact("/srv/m", {"error": "No such file or directory"})
    assert (fact.path, fact.error) == ("/srv/m", "No such file or directory")


def test_empty_directory_misses_everything() -> None:
    assert read({}, None)[0] == (
        "config.json",
        "weights (*.safetensors)",
        "a tokenizer (tokenizer.json or tokenizer.model)",
    )


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("config.json", "config.json"),
        ("model.safetensors", "weights (*.safetensors)"),
        ("tokenizer.json", "a tokenizer (tokenizer.json or tokenizer.model)"),
    ],
)
def test_each_missing_part_is_named(name: str, missing: str) -> None:
    assert read(without(name))[0] == (missing,)


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json", "tekken.json"])
def test_other_kinds_of_tokenizer_are_tokenizers(name: str) -> None:
    assert read({**without("tokenizer.json"), name: 1})[0] == ()


def test_configuration_of_a_tokenizer_is_no_tokenizer() -> None:
    assert read({**without("tokenizer.json"), "tokenizer_config.json": 1})[0]


@pytest.mark.parametrize("text", ["", "{", "[]", None, "null"])
def test_broken_config_is_named(text: str | None) -> None:
    assert read(WHOLE, text)[:3] == (("config.json that is valid JSON",), 0, 0)


def test_missing_shard_of_an_index_is_named() -> None:
    shards = {f"layer{n}": f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)}
    files = {**without("model.safetensors"), INDEX: 1, "model-00002-of-00003.safetensors": 5}
    missing = read(files, **{INDEX: json.dumps({"weight_map": shards})})[0]
    assert missing == ("model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors")


def test_whole_set_of_shards_misses_nothing_and_is_added_up() -> None:
    shards = {f"layer{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    files = {**without("model.safetensors"), INDEX: 1, **dict.fromkeys(shards.values(), 5)}
    found = read(files, **{INDEX: json.dumps({"weight_map": shards})})
    assert (found[0], found[3]) == ((), 10)


def test_index_cut_short_by_a_download_is_named() -> None:
    files = {**without("model.safetensors"), INDEX: 20, "model-00001-of-00002.safetensors": 5}
    missing = read(files, **{INDEX: '{"weight_map": {"a": "mod'})[0]
    assert any(INDEX in name for name in missing)


def test_empty_weight_file_is_named() -> None:
    assert read({**WHOLE, "model.safetensors": 0})[0] == ("model.safetensors (0 bytes)",)


def test_heads_of_a_multimodal_model_are_those_of_its_language_model() -> None:
    config: dict[str, Any] = {"vision_config": {"num_attention_heads": 16}}
    config["text_config"] = {"num_attention_heads": 28, "num_key_value_heads": 4}
    assert read(WHOLE, json.dumps(config))[1:3] == (28, 4)


def test_model_without_grouped_attention_has_as_many_kv_heads_as_heads() -> None:
    assert read(WHOLE, '{"num_attention_heads": 12}')[1:3] == (12, 12)


@pytest.mark.parametrize("value", ["12", None, -1, 0, 1.5])
def test_unusable_number_of_heads_is_unknown_not_a_crash(value: object) -> None:
    assert read(WHOLE, json.dumps({"num_attention_heads": value}))[1] == 0


def test_weights_are_what_an_engine_loads_not_the_copies_beside() -> None:
    shards = {f"layer{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    files = {**without("model.safetensors"), INDEX: 1, **dict.fromkeys(shards.values(), 5)}
    beside = {"consolidated.safetensors": 10, "pytorch_model.bin": 10}
    indexed = read({**files, **beside}, **{INDEX: json.dumps({"weight_map": shards})})
    assert indexed[3] == 10
    assert read({**WHOLE, "pytorch_model.bin": 1000})[3] == 1000
    assert read({**without("model.safetensors"), "pytorch_model.bin": 30})[3] == 30


def test_shape_of_the_model_is_read_with_it() -> None:
    config = json.dumps({"num_attention_heads": 8, "num_hidden_layers": 4, "hidden_size": 256})
    raw = {"error": None, "files": WHOLE, "texts": {"config.json": config}}
    shape = model_fact("/srv/m", raw).shape
    assert (shape.layers, shape.head_dim) == (4, 32)
