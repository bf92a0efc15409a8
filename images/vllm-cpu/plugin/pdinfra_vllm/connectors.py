"""Make this package's KV connectors known to vLLM by name."""

from __future__ import annotations

NAME = "YuanrongStoreConnector"


def apply() -> bool:
    """Return whether the connector was registered now. Imports nothing of it."""
    try:
        from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
    except ImportError:
        return False
    if NAME in KVConnectorFactory._registry:
        return False
    KVConnectorFactory.register_connector(NAME, "pdinfra_vllm.yuanrong.connector", NAME)
    return True
