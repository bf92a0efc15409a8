"""vLLM's KV connector for openYuanrong's data system.

    --kv-transfer-config '{"kv_connector": "YuanrongStoreConnector",
        "kv_role": "kv_producer", "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"worker": "10.0.0.2:31501"}}'

Prompt blocks are stored under content-addressed keys and loaded wherever a
prompt starts with the same tokens: by a decode instance after prefill, by any
instance with a shared prefix, by an engine that was restarted. Every role
loads; ``kv_producer`` and ``kv_both`` store. ``kv_connector_extra_config``:

- ``worker``: the data system's worker on this host, ``host:port``. Required.
- ``ttl_seconds`` (3600): how long a block stays stored at most.
- ``connect_timeout_ms`` (1000), ``request_timeout_ms`` (2000): of one call.
- ``save_seconds`` (2): how long storing may hold a step; the rest is dropped.
- ``model_id``: names the weights, instead of their digest.

Loads are asynchronous for vLLM: a request waits outside the batch, and its
blocks are shared only once they are loaded whole. Stores are not: they end
before the step does, so that an answer of prefill is never ahead of its KV.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.distributed.parallel_state import get_pp_group, get_tp_group
from vllm.v1.metrics.cache_hit_source import CacheHitSource

from pdinfra_vllm.yuanrong import engine, keys
from pdinfra_vllm.yuanrong.blocks import Blocks, Layer
from pdinfra_vllm.yuanrong.client import Store
from pdinfra_vllm.yuanrong.metadata import Step
from pdinfra_vllm.yuanrong.metrics import YuanrongPromMetrics, YuanrongStats
from pdinfra_vllm.yuanrong.planner import Planner

_logger = logging.getLogger("vllm.pdinfra.yuanrong")


@dataclasses.dataclass
class StepMetadata(KVConnectorMetadata):
    """A step's transfers, as vLLM carries them to its workers."""

    step: Step


class YuanrongStoreConnector(KVConnectorBase_V1):
    """Both halves of the connector; vLLM makes one object for each."""

    _cache_hit_source = CacheHitSource.HOST

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        """Connect to the data system; an unreachable one is tried again later.

        Raises:
            UnsupportedEngineError: The engine's configuration cannot be served.
            ValueError: ``worker`` is missing or not an address.
            ImportError: openyuanrong-datasystem is not installed.
        """
        super().__init__(vllm_config, role, kv_cache_config)
        engine.check(vllm_config, kv_cache_config)
        option = vllm_config.kv_transfer_config.get_from_extra_config
        self._store = Store(
            str(option("worker", "")),
            connect_timeout_ms=int(option("connect_timeout_ms", 1000)),
            request_timeout_ms=int(option("request_timeout_ms", 2000)),
            ttl_s=int(option("ttl_seconds", 3600)),
        )
        self._save_seconds = float(option("save_seconds", 2.0))
        self._engine = engine.fingerprint(vllm_config, kv_cache_config)
        self._block_size = engine.block_size(kv_cache_config)
        self._blocks: Blocks | None = None
        self._loaded: set[str] = set()
        self._failed_blocks: set[int] = set()
        self._reported: dict[str, int] = {}
        self._planner = Planner(
            self._store,
            self._engine,
            self._block_size,
            engine.ranks(vllm_config),
            saves=vllm_config.kv_transfer_config.is_kv_producer,
        )
        self._requests: dict[str, Any] = {}
        _logger.info(
            "YuanrongStoreConnector: %s, blocks of %d tokens, engine %s",
            role.name.lower(),
            self._block_size,
            self._engine.hex(),
        )

    @property
    def requires_kv_delivery(self) -> bool:
        """No: what is not stored is computed."""
        return False

    # Scheduler

    def on_new_request(self, request: Any) -> None:
        """Take a request, unless its KV depends on more than tokens and salt."""
        self._requests[request.request_id] = request
        if request.lora_request or request.mm_features or request.pooling_params:
            return
        if request.prompt_token_ids is None or request.prompt_embeds is not None:
            return
        self._planner.add(request.request_id, request.prompt_token_ids, request.cache_salt)

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """Return how many tokens can be loaded, and that this is asynchronous."""
        if request.skip_reading_prefix_cache:
            return 0, False
        tokens = self._planner.stored_tokens(request.request_id, num_computed_tokens)
        return tokens, tokens > 0

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Note a load that vLLM made room for."""
        if num_external_tokens > 0:
            self._planner.load(request.request_id, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        """Return the step's transfers."""
        computed = {
            request_id: self._requests[request_id].num_computed_tokens + scheduled
            for request_id, scheduled in scheduler_output.num_scheduled_tokens.items()
            if request_id in self._requests
        }
        return StepMetadata(self._planner.step(computed, self._block_ids))

    def update_connector_output(self, connector_output: Any) -> None:
        """Learn how loads ended."""
        self._planner.loaded(
            connector_output.finished_recving or (), connector_output.invalid_block_ids or ()
        )

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Forget a request. A router for NIXL finds the parameters it passes on."""
        self._requests.pop(request.request_id, None)
        self._planner.remove(request.request_id)
        asked = request.kv_transfer_params or {}
        if not asked.get("do_remote_decode"):
            return False, None
        return False, {"do_remote_prefill": True, "do_remote_decode": False}

    def _block_ids(self, request_id: str) -> list[int]:
        assert self._kv_cache_manager is not None
        return self._kv_cache_manager.get_block_ids(request_id)[0]

    # Worker

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Take the layers' KV caches, in an order that all instances agree on."""
        layers: dict[int, Layer] = {}
        for name in sorted(kv_caches):
            # Layers may share one cache.
            layers.setdefault(kv_caches[name].data_ptr(), _rows(name, kv_caches[name]))
        rank = keys.rank_name(get_tp_group().rank_in_group, get_pp_group().rank_in_group)
        self._blocks = Blocks(self._store, list(layers.values()), rank, self._save_seconds)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Load what the step says, and remember what failed."""
        step = self._step()
        for load in step.loads:
            failed = set(load.block_ids)
            if step.engine == self._engine and self._blocks is not None:
                failed = self._blocks.load(load.hashes, load.block_ids)
            self._failed_blocks |= failed
            self._loaded.add(load.request_id)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing to wait for: no request runs before its load has ended."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Nothing yet: a block is stored with all its layers."""

    def wait_for_save(self) -> None:
        """Store what the step made full."""
        step = self._step()
        if step.engine != self._engine or self._blocks is None:
            return
        for save in step.saves:
            self._blocks.save(save.hashes, save.block_ids)

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Return the requests whose load ended, well or not."""
        loaded, self._loaded = self._loaded, set()
        return None, loaded or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Return the blocks that vLLM has to compute."""
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    def _step(self) -> Step:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, StepMetadata)
        return metadata.step

    # Statistics

    def get_kv_connector_stats(self) -> YuanrongStats | None:
        """Return what was counted since the last call."""
        counters = self._store.counters
        now = {
            "stored_blocks": counters.stored,
            "stored_bytes": counters.stored_bytes,
            "loaded_blocks": counters.loaded,
            "loaded_bytes": counters.loaded_bytes,
            "missing_blocks": counters.missing,
            "damaged_blocks": counters.damaged,
            "skipped_blocks": counters.skipped + (self._blocks.dropped if self._blocks else 0),
            "failures": counters.failures,
        }
        new = {name: value - self._reported.get(name, 0) for name, value in now.items()}
        self._reported = now
        return YuanrongStats(data=new) if any(new.values()) else None

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> YuanrongStats | None:
        """Return statistics that came from another process."""
        return YuanrongStats(data=data or {})

    @classmethod
    def build_prom_metrics(cls, *args: Any, **kwargs: Any) -> YuanrongPromMetrics:
        """Return the Prometheus counters; the arguments are vLLM's."""
        return YuanrongPromMetrics(*args, **kwargs)


def _rows(name: str, cache: torch.Tensor) -> Layer:
    """Return a layer's KV cache as bytes, one row per block.

    Raises:
        UnsupportedEngineError: A block is not one piece of memory.
    """
    if cache.dim() < 2 or not cache.is_contiguous():
        raise engine.UnsupportedEngineError(
            f"the KV cache of {name} is not laid out block by block"
        )
    rows = cache.view(torch.uint8).reshape(cache.shape[0], -1).numpy()
    return [memoryview(row) for row in rows]
