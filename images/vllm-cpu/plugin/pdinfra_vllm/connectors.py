"""Which KV connectors vLLM gets from this package, by the names that it knows them by."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

NAME = "YuanrongStoreConnector"


def apply() -> bool:
    """Return whether the connectors were registered now. Imports nothing of them."""
    try:
        from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
    except ImportError:
        return False
    registry: dict[str, Callable[[], Any]] = KVConnectorFactory._registry
    if NAME in registry:
        return False
    registry[NAME] = _our("pdinfra_vllm.yuanrong.connector", NAME)
    registry["ExampleConnector"] = _our(
        "pdinfra_vllm.shared_storage.connector", "SharedStorageConnector"
    )
    registry["MooncakeConnector"] = _mended_mooncake(registry["MooncakeConnector"])
    return True


def _our(module: str, name: str) -> Callable[[], Any]:
    """Return what loads one of our classes when vLLM asks for it."""
    return lambda: getattr(importlib.import_module(module), name)


def _mended_mooncake(load: Callable[[], Any]) -> Callable[[], Any]:
    """Return what loads vLLM's own class, mended, when vLLM asks for it."""

    def loaded() -> Any:
        from pdinfra_vllm import mooncake

        connector = load()
        mooncake.mend()
        return connector

    return loaded
