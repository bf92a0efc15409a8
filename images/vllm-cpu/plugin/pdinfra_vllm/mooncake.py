"""Let MooncakeConnector run on a CPU, and on the port of the plan.

Two faults of vLLM 0.32.0 (``mooncake_connector.py``): the worker asks for the
index of an accelerator, which raises where there is none; and a prefill's worker
listens for decode's requests on a random port. With ``side_channel_port`` in
``kv_connector_extra_config`` it listens on that one plus its tensor-parallel rank.

The transfer engine has ports of its own, which the environment decides:
MC_MIN_RPC_PORT and MC_MAX_RPC_PORT.
"""

from __future__ import annotations

from typing import Any


def mend() -> None:
    """Mend the connector's module, once; call it when vLLM has loaded it."""
    import torch
    from vllm.distributed.kv_transfer.kv_connector.v1.mooncake import mooncake_connector

    if not torch.accelerator.is_available():
        torch.accelerator.current_device_index = _no_accelerator
    worker: Any = mooncake_connector.MooncakeConnectorWorker
    if not issubclass(worker, _Planned):
        mooncake_connector.MooncakeConnectorWorker = type(worker.__name__, (_Planned, worker), {})


def _no_accelerator() -> int:
    return 0


class _Planned:
    """A worker that takes its side channel's port from the configuration."""

    def __init__(self, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, *args, **kwargs)
        worker: Any = self
        port = vllm_config.kv_transfer_config.get_from_extra_config("side_channel_port", None)
        if port is not None:
            worker.async_zmq_ctx = _context(int(port) + worker.tp_rank)


def _context(port: int) -> Any:
    """Return a ZeroMQ context whose sockets take this port where a random one is asked for."""
    import zmq.asyncio

    class Socket(zmq.asyncio.Socket):
        def bind_to_random_port(self, addr: str, *args: Any, **kwargs: Any) -> int:
            self.bind(f"{addr}:{port}")
            return port

    class Context(zmq.asyncio.Context):
        _socket_class = Socket

    return Context()
