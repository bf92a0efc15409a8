"""The load format as vLLM sees it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from vllm.config import ModelConfig, VllmConfig, replace
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from pdinfra_vllm.yuanrong_load import settings as settings_of
from pdinfra_vllm.yuanrong_load.device import DeviceTransport
from pdinfra_vllm.yuanrong_load.facts import facts
from pdinfra_vllm.yuanrong_load.host import HostTransport
from pdinfra_vllm.yuanrong_load.identity import UnknownModelError, model_digest
from pdinfra_vllm.yuanrong_load.memory import (
    TorchDevice,
    TorchMemory,
    UnsuitedError,
    changed,
    named_tensors,
    specs,
    state,
)
from pdinfra_vllm.yuanrong_load.names import names
from pdinfra_vllm.yuanrong_load.rank import Rank
from pdinfra_vllm.yuanrong_load.store import DataSystem, Store, StoreError
from pdinfra_vllm.yuanrong_load.transport import NotPublishedError, Transport

_logger = logging.getLogger("vllm.pdinfra")


class YuanrongLoader(DefaultModelLoader):  # type: ignore[misc]  # vLLM has no types here
    """Fetches a model's weights from the data system; reads them from disk on any doubt.

    It fills the same parameters at the same point as the disk does, before vLLM
    processes them for its kernels: what an engine computes does not depend on where
    its weights came from.
    """

    def __init__(self, load_config: LoadConfig) -> None:
        """Take vLLM's configuration. Raises ValueError if ours in it is wrong."""
        extra = load_config.model_loader_extra_config
        if not isinstance(extra, dict):
            raise ValueError("model_loader_extra_config of load format yuanrong must be an object")
        self._settings = settings_of.read(extra)
        disk = self._settings.disk_format
        super().__init__(replace(load_config, load_format=disk, model_loader_extra_config={}))
        self._config: VllmConfig | None = None
        self._rank: Rank | None = None

    def load_model(
        self, vllm_config: VllmConfig, model_config: ModelConfig, prefix: str = ""
    ) -> nn.Module:
        """Return the model with its weights; publishing them goes on in a thread."""
        # Loading a draft sets more than parameters; and weights that are loaded again, later
        # and without this method, were processed before.
        self._config = vllm_config if model_config is vllm_config.model_config else None
        try:
            model = super().load_model(vllm_config, model_config, prefix)
        finally:
            self._config = None
            rank, self._rank = self._rank, None
        if rank is not None:
            rank.processed()
        return model

    def load_weights(self, model: nn.Module, model_config: ModelConfig) -> None:
        """Fill a model's parameters."""

        def from_disk() -> str | None:
            before = state(model)
            super(YuanrongLoader, self).load_weights(model, model_config)
            return changed(before, state(model))

        try:
            if self._config is None:
                raise UnsuitedError("this is not the first load of an engine's own model")
            _refuse_nixl(self._config)
            digest = _digest(self._config)
            tensors = named_tensors(model)
        except (UnknownModelError, UnsuitedError) as reason:
            started = time.monotonic()
            from_disk()
            seconds = time.monotonic() - started
            _logger.info("pdinfra: weights loaded from disk in %.2f s because %s", seconds, reason)
            return
        settings, described = self._settings, specs(tensors)
        kind = settings.transport
        if kind == "auto":
            npus = all(tensor.device.type == "npu" for tensor in tensors.values())
            kind = "device" if npus else "host"

        def connect() -> Store:
            return DataSystem(
                settings.host, settings.port, settings.connect_ms, settings.request_ms
            )

        def transport(store: Store) -> Transport:
            if kind == "host":
                memory = TorchMemory(list(tensors.values()))
                return HostTransport(
                    store, memory, described, settings.chunk_bytes, settings.lease_s
                )
            current = _as_now(model, list(tensors))
            client = _tensor_client(settings)
            return DeviceTransport(client, TorchDevice(), described, current, settings.request_ms)

        known = names(facts(self._config, digest, kind))
        self._rank = Rank(known, described, settings)
        self._rank.load(from_disk, connect, transport)


def _refuse_nixl(config: VllmConfig) -> None:
    """Raise UnsuitedError if NIXL will be loaded into this process: both would crash it."""
    if "nixl" in str(config.kv_transfer_config).lower():
        raise UnsuitedError("the data system's client and NIXL cannot be in one process")


def _digest(config: VllmConfig) -> str:
    """Return which model an engine loads. Raises UnknownModelError."""
    directory = Path(config.model_config.model)
    if not directory.is_dir():
        raise UnknownModelError(f"{directory} is not a directory here")
    return model_digest(directory)


def _as_now(model: nn.Module, wanted: Sequence[str]) -> Callable[[], list[Any]]:
    """Return a function that returns the tensors of these names as they are then."""

    def current() -> list[Any]:
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        return [tensors[name].data if name in tensors else None for name in wanted]

    return current


def _tensor_client(settings: settings_of.Settings) -> Any:
    """Return a connected DsTensorClient. Raises NotPublishedError, StoreError."""
    try:
        from yr.datasystem import DsTensorClient
    except ImportError as error:
        raise NotPublishedError(f"no DsTensorClient: {error}") from None
    try:
        client = DsTensorClient(
            settings.host,
            settings.port,
            torch.accelerator.current_device_index(),
            connect_timeout_ms=settings.request_ms,
            req_timeout_ms=settings.request_ms,
        )
        client.init()
    except (RuntimeError, TypeError) as error:
        raise StoreError(f"data system: {str(error)[:200]}") from None
    return client
