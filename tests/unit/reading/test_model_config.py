"""config.json: what an engine splits, and keeps of each token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.assets import ROOT
from pdinfra.model.facts import Shape
from pdinfra.reading.model_config import shape

QWEN_14B: dict[str, Any] = {
    "hidden_size": 5120,
    "max_position_embeddings": 131072,
    "num_attention_heads": 40,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "sliding_window": 131072,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
}
"""Of the guide vllm-ray-tensor-parallel."""


def test_qwen_14b_of_the_guide() -> None:
    assert shape(QWEN_14B) == Shape(layers=48, head_dim=128, positions=131072, dtype="bfloat16")


def test_shipped_tiny_model() -> None:
    path = ROOT / "roles/model/files/tiny-qwen2/model/config.json"
    found = shape(json.loads(path.read_text(encoding="utf-8")))
    assert (found.layers, found.head_dim, found.dtype) == (4, 32, "bfloat16")


def test_size_of_a_head_that_is_given_wins() -> None:
    assert shape({**QWEN_14B, "head_dim": 256}).head_dim == 256
    assert shape({**QWEN_14B, "head_dim": None}).head_dim == 128


def test_mla_keeps_a_latent_and_the_turned_part_of_the_key() -> None:
    deepseek = {**QWEN_14B, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert (shape(deepseek).latent, shape(deepseek).head_dim) == (576, 0)


@pytest.mark.parametrize(
    "more",
    [
        {"use_sliding_window": True},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"full_attention_interval": 4},
        {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "index_topk": 2048},
    ],
)
def test_layers_of_several_kinds_have_no_one_size(more: dict[str, Any]) -> None:
    found = shape({**QWEN_14B, **more})
    assert (found.head_dim, found.latent, found.layers) == (0, 0, 48)


def test_layers_that_are_all_whole_are_of_one_kind() -> None:
    assert shape({**QWEN_14B, "layer_types": ["full_attention"] * 48}).head_dim == 128


def test_numbers_of_a_multimodal_model_are_those_of_its_language_model() -> None:
    found = shape({"text_config": QWEN_14B, "vision_config": {"num_hidden_layers": 2}})
    assert found.layers == 48


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_type_has_two_names_and_stands_on_either_level(key: str) -> None:
    assert shape({key: "torch.float32", "text_config": {}}).dtype == "float32"


def test_quantized_files_are_known_by_their_configuration() -> None:
    assert shape({"quantization_config": {"quant_method": "awq"}}).quantized


def test_nothing_said_is_nothing_known() -> None:
    assert shape({"num_hidden_layers": "48", "layer_types": "all", "hidden_size": -1}) == Shape()
