"""vLLM gets our connectors and mended ones by its own names, and nothing before it asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.vllm_plugin import scripts

CONNECTORS = "vllm/distributed/kv_transfer/kv_connector"

# As vLLM 0.32.0 is made, as far as the plugin touches it.
FACTORY = """
import importlib
def vllms(module, name):
    return lambda: getattr(importlib.import_module(module), name)
class KVConnectorFactory:
    _registry = {
        "NixlConnector": vllms("nowhere", "NixlConnector"),
        "ExampleConnector": vllms("nowhere", "ExampleConnector"),
        "MooncakeConnector": vllms(
            "vllm.distributed.kv_transfer.kv_connector.v1.mooncake.mooncake_connector",
            "MooncakeConnector",
        ),
    }
"""
MOONCAKE = """
import torch
import zmq.asyncio
class MooncakeConnectorWorker:
    def __init__(self, vllm_config, engine_id, kv_cache_config):
        self.device_id = torch.accelerator.current_device_index()
        self.tp_rank = 1
        self.async_zmq_ctx = zmq.asyncio.Context()
    def listen(self):
        socket = self.async_zmq_ctx.socket(7)
        return socket.bind_to_random_port("tcp://127.0.0.1"), socket.bound
class MooncakeConnector:
    def __init__(self, config):
        self.worker = MooncakeConnectorWorker(config, "engine", None)
"""
TORCH = """
class accelerator:
    @staticmethod
    def is_available():
        return AVAILABLE
    @staticmethod
    def current_device_index():
        if not AVAILABLE:
            raise RuntimeError("Cannot access accelerator device when none is available.")
        return 3
"""
ZMQ = """
class Socket:
    bound = None
    def bind(self, address):
        self.bound = address
    def bind_to_random_port(self, address):
        return 55555
class Context:
    _socket_class = Socket
    def socket(self, kind):
        return self._socket_class()
"""
SCRIPT = """
import sys
from pdinfra_vllm import connectors
print(connectors.apply(), connectors.apply())
print("torch" in sys.modules, "zmq" in sys.modules)
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
class Config:
    class kv_transfer_config:
        get_from_extra_config = staticmethod({extra}.get)
for _ in range(2):
    connector = KVConnectorFactory._registry["MooncakeConnector"]()
worker = connector(Config).worker
print(worker.device_id, *worker.listen())
"""


@pytest.fixture
def vllm(tmp_path: Path) -> Path:
    """Return a directory to import stand-ins for vLLM, torch and ZeroMQ from."""
    for name, content in {
        f"{CONNECTORS}/factory.py": FACTORY,
        f"{CONNECTORS}/v1/mooncake/mooncake_connector.py": MOONCAKE,
        "zmq/__init__.py": "",
        "zmq/asyncio.py": ZMQ,
        "torch.py": TORCH.replace("AVAILABLE", "False"),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_mooncake_runs_without_an_accelerator_and_on_the_port_of_the_plan(vllm: Path) -> None:
    assert run(SCRIPT.format(extra={"side_channel_port": 15650}), vllm) == [
        "True False",
        "False False",
        "0 15651 tcp://127.0.0.1:15651",
    ]


def test_mooncake_without_a_port_takes_vllms_random_one(vllm: Path) -> None:
    assert run(SCRIPT.format(extra={}), vllm)[-1] == "0 55555 None"


def test_an_accelerator_that_is_there_keeps_its_index(vllm: Path) -> None:
    (vllm / "torch.py").write_text(TORCH.replace("AVAILABLE", "True"))
    assert run(SCRIPT.format(extra={}), vllm)[-1] == "3 55555 None"


def test_the_shared_folder_stands_in_for_the_example_and_nixl_stays_vllms(vllm: Path) -> None:
    script = """
from pdinfra_vllm import connectors
connectors.apply()
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
for name in ("ExampleConnector", "YuanrongStoreConnector", "NixlConnector"):
    try:
        KVConnectorFactory._registry[name]()
    except ImportError as error:
        print(name, error.name)
"""
    # Neither has what ours import, so the loaders get only as far as those.
    assert run(script, vllm) == [
        "ExampleConnector safetensors",
        "YuanrongStoreConnector vllm.distributed.kv_transfer.kv_connector.v1.base",
        "NixlConnector nowhere",
    ]


def test_without_vllm_there_is_nothing_to_do(tmp_path: Path) -> None:
    script = "from pdinfra_vllm import connectors; print(connectors.apply())"
    assert run(script, tmp_path) == ["False"]


def run(script: str, *folders: Path) -> list[str]:
    """Return the lines that a script prints."""
    return scripts.run(script, *folders).splitlines()
