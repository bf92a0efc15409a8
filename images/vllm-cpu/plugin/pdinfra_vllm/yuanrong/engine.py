"""What of an engine's configuration decides its KV: the facts of its fingerprint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import vllm
from vllm.v1.attention.backends import cpu_attn
from vllm.v1.kv_cache_interface import FullAttentionSpec

from pdinfra_vllm.yuanrong import keys, weights

# Of the model's configuration as vLLM reads it: no influence on KV, but another
# text on another host.
_INCIDENTAL = ("_name_or_path", "transformers_version", "_commit_hash")


class UnsupportedEngineError(ValueError):
    """The connector cannot serve an engine of this configuration."""


def check(config: Any, kv_cache_config: Any) -> None:
    """Refuse what would be wrong or could not work.

    Raises:
        UnsupportedEngineError: It says what, and what to do.
    """
    if config.kv_transfer_config.kv_load_failure_policy != "recompute":
        raise UnsupportedEngineError(
            'set "kv_load_failure_policy": "recompute" in --kv-transfer-config: otherwise vLLM'
            " fails requests whose KV is gone from the data system"
        )
    check_model(config, kv_cache_config, "YuanrongStoreConnector")


def check_model(config: Any, kv_cache_config: Any, connector: str) -> None:
    """Refuse a model or an engine whose KV is not one block of full attention after another.

    Raises:
        UnsupportedEngineError: It names the connector and says what it cannot serve.
    """
    if config.device_config.device_type != "cpu":
        raise UnsupportedEngineError(f"{connector} serves engines on CPU only")
    groups = kv_cache_config.kv_cache_groups
    if len(groups) != 1 or not isinstance(groups[0].kv_cache_spec, FullAttentionSpec):
        kinds = ", ".join(type(group.kv_cache_spec).__name__ for group in groups)
        raise UnsupportedEngineError(
            f"{connector} needs a model with full attention in one group, not {kinds}"
        )
    parallel = config.parallel_config
    if parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1:
        raise UnsupportedEngineError(f"{connector} does not serve context parallelism")
    drafts = config.speculative_config
    if drafts is not None and drafts.method != "ngram":
        # A draft layer's KV depends on the token after its block as well.
        raise UnsupportedEngineError(f"{connector} serves no draft models, only ngram")


def block_size(kv_cache_config: Any) -> int:
    """Return how many tokens a KV block has."""
    return int(kv_cache_config.kv_cache_groups[0].kv_cache_spec.block_size)


def ranks(config: Any) -> list[str]:
    """Return the names of all parts that a block's KV has, one per worker."""
    parallel = config.parallel_config
    return [
        keys.rank_name(tensor, pipeline)
        for pipeline in range(parallel.pipeline_parallel_size)
        for tensor in range(parallel.tensor_parallel_size)
    ]


def fingerprint(config: Any, kv_cache_config: Any) -> bytes:
    """Return what two engines have in common if and only if they can share KV.

    Raises:
        UnsupportedEngineError: The model's weights cannot be told apart.
    """
    return keys.fingerprint(facts(config, kv_cache_config))


def facts(config: Any, kv_cache_config: Any) -> dict[str, keys.Scalar]:
    """Return everything that makes KV of equal tokens differ.

    Raises:
        UnsupportedEngineError: The model's weights cannot be told apart.
    """
    model, cache, parallel = config.model_config, config.cache_config, config.parallel_config
    group = kv_cache_config.kv_cache_groups[0]
    spec = group.kv_cache_spec
    return {
        "vllm": vllm.__version__,
        "weights": _weights(config),
        "model": _digest(_model_facts(model)),
        "quantization": str(model.quantization),
        "dtype": str(model.dtype),
        "kv_dtype": str(spec.dtype),
        "cache_dtype": str(cache.cache_dtype),
        "block_size": int(spec.block_size),
        "spec": repr(spec),
        "layers": _digest(sorted(group.layer_names)),
        # The instruction set decides how keys are laid out within a block.
        "layout": cpu_attn._get_attn_isa(
            model.dtype, spec.block_size, spec.head_size, cache.cache_dtype
        ),
        # Some ways to scale positions depend on the longest context served.
        "max_model_len": int(model.max_model_len),
        "tensor_parallel": int(parallel.tensor_parallel_size),
        "pipeline_parallel": int(parallel.pipeline_parallel_size),
    }


def _model_facts(model: Any) -> dict[str, Any]:
    facts: dict[str, Any] = model.hf_config.to_dict()
    return {name: value for name, value in facts.items() if name not in _INCIDENTAL}


def _weights(config: Any) -> str:
    named = config.kv_transfer_config.get_from_extra_config("model_id", None)
    if named is not None:
        return f"named:{named}"
    if str(config.load_config.load_format) == "dummy":
        return "dummy"
    try:
        return weights.digest(Path(config.model_config.model))
    except weights.UnknownWeightsError as error:
        raise UnsupportedEngineError(
            f"{error}; name the model and its version by"
            ' "kv_connector_extra_config": {"model_id": "..."}'
        ) from error


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
