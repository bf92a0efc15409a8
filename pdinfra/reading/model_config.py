"""config.json of a model → what an engine splits, and keeps of each token.

Source: vLLM 0.32, transformers_utils/model_arch_config_convertor.py and config/model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdinfra.model.facts import Shape

OF_SEVERAL_KINDS = (
    "attn_layer_period",
    "attn_type_list",
    "compress_ratios",
    "cross_attention_layers",
    "full_attention_interval",
    "hybrid_override_pattern",
    "index_topk",
    "layers_block_type",
    "num_kv_shared_layers",
    "sliding_window_pattern",
)
"""Fields of models whose layers do not all keep the same of every token."""
WHOLE = {"attention", "full_attention"}


def language_model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the numbers of the language model: multimodal ones keep them one level down."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def shape(config: Mapping[str, Any]) -> Shape:
    """Read a parsed config.json; what it does not say, or says in a way of its own, is 0."""
    numbers = language_model(config)
    dtypes = (numbers.get(key) or config.get(key) for key in ("torch_dtype", "dtype"))
    latent = count(numbers.get("kv_lora_rank"))
    every = _every_token(numbers)
    return Shape(
        layers=count(numbers.get("num_hidden_layers")),
        head_dim=_head_dim(numbers) if every and not latent else 0,
        latent=latent + count(numbers.get("qk_rope_head_dim")) if every and latent else 0,
        positions=count(numbers.get("max_position_embeddings")),
        dtype=next((str(name).removeprefix("torch.") for name in dtypes if name), ""),
        quantized=any("quantization_config" in each for each in (config, numbers)),
    )


def count(value: object) -> int:
    """Return a positive whole number, else 0."""
    return value if isinstance(value, int) and value > 0 else 0


def _head_dim(numbers: Mapping[str, Any]) -> int:
    """Return the numbers of one head; most models leave it to be computed."""
    heads = count(numbers.get("num_attention_heads"))
    computed = count(numbers.get("hidden_size")) // heads if heads else 0
    return count(numbers.get("head_dim")) or computed


def _every_token(numbers: Mapping[str, Any]) -> bool:
    """Tell whether each layer keeps KV of every token: no window, no state in its place."""
    window = numbers.get("sliding_window") and numbers.get("use_sliding_window", True)
    kinds = numbers.get("layer_types")
    other = isinstance(kinds, list) and {str(kind) for kind in kinds} - WHOLE
    return not (window or other or any(numbers.get(field) for field in OF_SEVERAL_KINDS))
