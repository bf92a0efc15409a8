"""All that shapes a rank's tensors, from vLLM's configuration."""

from __future__ import annotations

from typing import Any

from vllm import __version__
from vllm.config import VllmConfig
from vllm.distributed.parallel_state import (
    get_dcp_group,
    get_ep_group,
    get_pp_group,
    get_tp_group,
)


def facts(config: VllmConfig, digest: str, transport: str) -> dict[str, object]:
    """Return what must be equal for two engines to share a rank's weights (JSON's types).

    Must be called in a worker, where the ranks are known.
    """
    model, parallel = config.model_config, config.parallel_config
    return {
        "model": digest,
        "revision": model.revision,
        "architectures": list(model.architectures),
        "overrides": str(model.hf_overrides),
        "vllm": __version__,
        "dtype": str(model.dtype),
        "quantization": model.quantization,
        "kv_cache_dtype": str(config.cache_config.cache_dtype),
        "device": config.device_config.device_type,
        "transport": transport,
        "tp": _place(get_tp_group),
        "pp": _place(get_pp_group),
        "ep": _place(get_ep_group),
        "dcp": _place(get_dcp_group),
        "expert_parallel": [
            parallel.enable_expert_parallel,
            parallel.enable_eplb,
            parallel.expert_placement_strategy,
        ],
    }


def _place(group: Any) -> list[int] | None:
    """Return rank and size in a group; None where this engine has no such group."""
    try:
        found = group()
    except AssertionError:
        return None
    return [found.rank_in_group, found.world_size]
