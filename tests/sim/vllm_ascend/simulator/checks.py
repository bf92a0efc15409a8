"""What the plugin needs at start, in its order, and the words with which it fails.

Source: vllm_ascend/distributed/llmdatadist_c_mgr_connector.py and mooncake_connector.py; vLLM's
kv_connector/factory.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .engine import Engine
from .versions import DATADIST, MOONCAKE, has_connector, port_variable

CONTROL = ("davinci_manager", "devmm_svm", "hisi_hdc")
RPC_PORT = 5557
"""Where LLMDataDist listens unless the variable of its version says otherwise."""
DIRECT_PORTS = range(20000, 36000)
LISTS = {"kv_producer": "prefill_device_list", "kv_consumer": "decode_device_list"}


class StartError(Exception):
    """The engine ends; the text is the last line of the real one's traceback, or stands for it."""


def check(engine: Engine, dev: Path) -> tuple[str, int]:
    """Return address and first port at which the engine's ranks listen. Raises StartError.

    dev: the folder of the device nodes.
    """
    check_devices(engine, dev)
    check_connector(engine)
    if engine.connector == DATADIST:
        return check_datadist(engine)
    return check_mooncake(engine)


def check_devices(engine: Engine, dev: Path) -> None:
    """Find the cards' nodes, as the driver does when a process opens a device."""
    nodes = [*CONTROL, *(f"davinci{device}" for device in engine.devices)]
    missing = [node for node in nodes if not (dev / node).exists()]
    if missing or not engine.devices:
        raise StartError(
            "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
            "dcmi module initialize failed. ret is -8005\n"
            f"SIMULATOR: no {', '.join(missing) or 'ASCEND_RT_VISIBLE_DEVICES'}"
        )
    if len(engine.devices) < engine.ranks:
        raise StartError(
            f"SIMULATOR: {engine.ranks} ranks, but ASCEND_RT_VISIBLE_DEVICES has "
            f"{len(engine.devices)} devices"
        )


def check_connector(engine: Engine) -> None:
    """Find the connector, by its registered name or by its module."""
    module = engine.transfer.get("kv_connector_module_path")
    if has_connector(engine.version, engine.connector):
        return
    if module is None:
        raise StartError(f"ValueError: Unsupported connector type: {engine.connector}")
    raise StartError(f"ModuleNotFoundError: No module named '{module}'")


def check_datadist(engine: Engine) -> tuple[str, int]:
    """Read the role, then the rank table."""
    if engine.role not in LISTS:
        raise StartError(
            "RuntimeError: LLMDataDistWorker: Receive unexpected kv role in LLMDataDistWorker, "
            "this worker now only support kv_producer and kv_consumer, but receiving "
            f"{engine.role}"
        )
    path = engine.environment.get("DISAGGREGATED_PREFILL_RANK_TABLE_PATH")
    if not path:
        raise StartError(
            "AssertionError: Please set path of rank_table to env variable "
            "DISAGGREGATED_PREFILL_RANK_TABLE_PATH"
        )
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise StartError(f"{type(error).__name__}: {error}") from error
    except ValueError as error:
        raise StartError(f"json.decoder.JSONDecodeError: {error}") from error
    check_rank_table(engine, table)
    address = engine.environment.get("VLLM_ASCEND_LLMDD_RPC_IP", "0.0.0.0")
    return address, int(engine.environment.get(port_variable(engine.version), RPC_PORT))


def check_rank_table(engine: Engine, table: dict[str, Any]) -> None:
    """Find a device of this host and engine for each rank."""
    for name in LISTS.values():
        if name not in table:
            raise StartError(f"KeyError: '{name}'")
    mine = [
        device
        for device in table[LISTS[engine.role]]
        if device.get("server_id") == engine.address and device.get("device_id") in engine.devices
    ]
    for rank in range(engine.ranks):
        if rank >= len(mine):
            raise StartError(
                f"AssertionError: Can't read the target server_id {engine.address} and "
                f"device_rank {rank} from rank table"
            )
        for key in ("device_ip", "cluster_id"):
            if key not in mine[rank]:
                raise StartError(f"KeyError: '{key}'")
        int(mine[rank]["cluster_id"])


def check_mooncake(engine: Engine) -> tuple[str, int]:
    """Read both roles' sizes, the physical devices and the port."""
    extra = engine.transfer.get("kv_connector_extra_config", {})
    sizes = [extra.get(role, {}).get("tp_size") for role in ("prefill", "decode")]
    if None in sizes:
        raise StartError("AssertionError: assert 'tp_size' in parallel_config.keys()")
    prefill, decode = sizes
    if prefill < decode:
        raise StartError(
            f"ValueError: prefill_tp_size: {prefill} must be greater than or equal to the "
            f"decode_tp_size: {decode}"
        )
    own = prefill if engine.role == "kv_producer" else decode
    if own != engine.ranks:
        raise StartError(f"SIMULATOR: {engine.ranks} ranks, but the connector is told {own}")
    physical = engine.environment.get("PHYSICAL_DEVICES")
    if physical is not None and len(physical.split(",")) < engine.ranks:
        raise StartError(
            "ValueError: Not enough physical devices available for DP rank 0. Expected at least "
            f"{engine.ranks} devices, but found {len(physical.split(','))} in PHYSICAL_DEVICES."
        )
    if engine.kv_port in DIRECT_PORTS:
        raise StartError(in_use(engine.address, engine.kv_port, MOONCAKE))
    return engine.address, engine.kv_port


def in_use(address: str, port: int, connector: str) -> str:
    """Return what is said of a port that somebody else has."""
    text = f"zmq.error.ZMQError: Address already in use (addr='tcp://{address}:{port}')"
    if connector == MOONCAKE:
        text += "\nRuntimeError: KV Cache sending/receiving thread failed to start."
    return text
