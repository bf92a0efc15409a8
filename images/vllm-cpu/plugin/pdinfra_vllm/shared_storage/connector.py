"""In place of vLLM's ExampleConnector: the same name and options, and no prompt ends an engine.

    --kv-transfer-config '{"kv_connector": "ExampleConnector", "kv_role": "kv_producer",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"shared_storage_path": "/srv/kv"}}'

The prefill instance writes the KV of a prompt's whole blocks into a folder, one
safetensors file per layer; whoever gets a prompt with the same whole blocks reads
it. A decode instance needs no parameters in its request, only the prefill first.

vLLM's own (0.32.0, "simple debug implementation") looks for a prompt under
another name than it stores it when a block ends one token before the prompt, and
answers a negative number of tokens when the prompt is shorter than its cached
blocks: both end the engine. It stores what a step has of a prompt computed in
several steps as if it were all, writes in place, gives every tensor-parallel rank
the same file, and its names know neither model nor type. So nothing of it is used.

``kv_connector_extra_config``:

- ``shared_storage_path``: the folder, the same on all hosts. Required.
- ``most_gib`` (10): what an engine's KV may take there; the oldest prompts go.
- ``model_id``: names the weights, instead of their digest.

Every role loads; ``kv_producer`` and ``kv_both`` store. Loads are asynchronous
for vLLM, stores end before the step does: see ``YuanrongStoreConnector``.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.distributed.parallel_state import get_pp_group, get_tp_group
from vllm.v1.metrics.cache_hit_source import CacheHitSource

from pdinfra_vllm.shared_storage.folders import Folders
from pdinfra_vllm.shared_storage.planner import Planner, Step, Transfer
from pdinfra_vllm.yuanrong import engine, keys

_logger = logging.getLogger("vllm.pdinfra.shared_storage")

_GIB = 1024**3
# Looking at everything in the folder takes time; so many stores pass between two looks.
_CLEAN_EVERY = 64


@dataclasses.dataclass
class StepMetadata(KVConnectorMetadata):
    """A step's transfers, as vLLM carries them to its workers."""

    step: Step


class SharedStorageConnector(KVConnectorBase_V1):
    """Both halves of the connector; vLLM makes one object for each."""

    _cache_hit_source = CacheHitSource.DISK

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        """Name the engine's part of the folder.

        Raises:
            UnsupportedEngineError: The engine's configuration cannot be served.
            ValueError: ``shared_storage_path`` is missing.
        """
        super().__init__(vllm_config, role, kv_cache_config)
        engine.check_model(vllm_config, kv_cache_config, "ExampleConnector")
        option = vllm_config.kv_transfer_config.get_from_extra_config
        root = str(option("shared_storage_path", ""))
        if not root:
            raise ValueError(
                "set shared_storage_path in kv_connector_extra_config of --kv-transfer-config"
            )
        self._most_bytes = int(float(option("most_gib", 10)) * _GIB)
        self._engine = engine.fingerprint(vllm_config, kv_cache_config).hex()[:32]
        self._folders = Folders(Path(root), self._engine, engine.ranks(vllm_config))
        self._planner = Planner(
            self._folders,
            self._engine,
            engine.block_size(kv_cache_config),
            stores=vllm_config.kv_transfer_config.is_kv_producer,
        )
        self._requests: dict[str, Any] = {}
        self._caches: dict[str, torch.Tensor] = {}
        self._rank = ""
        self._stores = 0
        self._loaded: set[str] = set()
        self._failed_blocks: set[int] = set()
        _logger.info("ExampleConnector of pdinfra: %s, KV in %s", role.name.lower(), self._engine)

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

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Forget a request."""
        self._requests.pop(request.request_id, None)
        self._planner.remove(request.request_id)
        return False, None

    def _block_ids(self, request_id: str) -> list[int]:
        assert self._kv_cache_manager is not None
        return self._kv_cache_manager.get_block_ids(request_id)[0]

    # Worker

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Take the layers' KV caches."""
        self._caches = kv_caches
        self._rank = keys.rank_name(get_tp_group().rank_in_group, get_pp_group().rank_in_group)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Load what the step says, and remember what failed."""
        step = self._step()
        for load in step.loads:
            if step.engine != self._engine or not self._load(load):
                self._failed_blocks.update(load.block_ids)
            self._loaded.add(load.request_id)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing to wait for: no request runs before its load has ended."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Nothing yet: a prompt is stored with all its layers."""

    def wait_for_save(self) -> None:
        """Store the prompts that the step made whole."""
        step = self._step()
        if step.engine != self._engine:
            return
        for store in step.stores:
            self._store(store)

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Return the requests whose load ended, well or not."""
        loaded, self._loaded = self._loaded, set()
        return None, loaded or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Return the blocks that vLLM has to compute."""
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    def _load(self, load: Transfer) -> bool:
        """Return whether all layers' blocks were read; half of them does no harm."""
        folder = self._folders.part(load.prompt, self._rank)
        last = load.first + len(load.block_ids)
        try:
            for layer, cache in self._caches.items():
                stored = _read(folder / f"{layer}.safetensors")
                if stored.dtype != cache.dtype or stored.shape[1:] != cache.shape[1:]:
                    raise ValueError(f"{layer} is of another shape or type")
                cache[load.block_ids] = stored[load.first : last]
        # Whatever a damaged file or a failing disk makes safetensors and torch raise:
        # vLLM computes the blocks, and the next prefill writes them anew.
        except Exception as error:
            _logger.warning("KV in %s cannot be read, the prompt is computed: %s", folder, error)
            self._folders.discard(load.prompt)
            return False
        return True

    def _store(self, store: Transfer) -> None:
        """Write a prompt's KV; a disk that is full or gone costs sharing, not the answer."""

        def write(folder: Path) -> None:
            for layer, cache in self._caches.items():
                _write(folder / f"{layer}.safetensors", cache[store.block_ids].contiguous())

        try:
            self._folders.store(store.prompt, self._rank, write)
        except Exception as error:
            _logger.warning("KV of a prompt cannot be stored: %s", error)
        if self._stores % _CLEAN_EVERY == 0 and self._rank == keys.rank_name(0, 0):
            threading.Thread(target=self._clean, name="pdinfra-clean", daemon=True).start()
        self._stores += 1

    def _clean(self) -> None:
        """Keep the folder small; no step waits for it, because a folder on NFS may be slow."""
        taken = self._folders.clean(self._most_bytes)
        if taken:
            _logger.info("KV of %d prompts made room for newer ones", taken)

    def _step(self) -> Step:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, StepMetadata)
        return metadata.step


def _write(file: Path, tensor: torch.Tensor) -> None:
    save_file({"kv_cache": tensor}, file, metadata={"crc32": _checksum(tensor)})


def _read(file: Path) -> torch.Tensor:
    """Return a file's tensor.

    Raises:
        ValueError: It is not what was written, as after a crash of the host.
        Exception: Whatever else safetensors finds wrong.
    """
    with safe_open(file, framework="pt") as opened:
        tensor = opened.get_tensor("kv_cache")
        if opened.metadata()["crc32"] != _checksum(tensor):
            raise ValueError(f"{file.name} has another checksum")
    return tensor


def _checksum(tensor: torch.Tensor) -> str:
    return f"{zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy()):08x}"
