"""`vllm` as an image of vllm-ascend has it: checks first, then real vLLM with NIXL, on CPU."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from .checks import StartError, check, check_devices, in_use
from .engine import Engine, read
from .versions import MOONCAKE

ABOUT = """\
SIMULATOR of `vllm` with the plugin vllm-ascend, version {version}.
It needs what the plugin needs and fails as it does; the model runs on the CPU, on real vLLM, and
its KV goes through vLLM's NixlConnector. No Ascend software is in this image.
"""
REAL = "/opt/pdinfra/bin/vllm"


def main(words: Sequence[str]) -> int:
    """Start the engine; return 1 where the real one would end."""
    about = ABOUT.format(version=os.environ["PDINFRA_SIM_VERSION"])
    if not words or words[0] in ("--help", "-h"):
        print(about)
        return 0
    print(about, file=sys.stderr, flush=True)
    if words[0] != "serve":
        os.execv(REAL, [REAL, *words])
    engine = read(words, os.environ)
    try:
        if not engine.transfer:
            check_devices(engine, Path("/dev"))
            start(engine, {}, {})
        address, port = check(engine, Path("/dev"))
        hold(engine, address, port)
    except StartError as error:
        print(error, file=sys.stderr)
        print("RuntimeError: Engine core initialization failed. See root cause above.")
        return 1
    start(engine, transfer(engine), side_channel(engine, port))
    return 0


def hold(engine: Engine, address: str, port: int) -> None:
    """Listen at the ports of all ranks but the first, where NIXL will. Raises StartError.

    Where LLMDataDist's port is taken, its thread dies and the engine waits for it for ever.
    """
    if engine.connector == MOONCAKE and engine.role != "kv_producer":
        return
    for rank in range(engine.ranks):
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((address, port + rank))
            server.listen()
        except OSError:
            text = in_use(address, port + rank, engine.connector)
            if engine.connector == MOONCAKE:
                raise StartError(text) from None
            print(f"Exception in thread metadata_agent_listener:\n{text}", file=sys.stderr)
            wait_for_ever()
        if rank == 0:
            server.close()
        else:
            # It goes on listening in the engine.
            server.set_inheritable(True)
            server.detach()


def wait_for_ever() -> None:
    """Wait as the real engine does for its thread, until it is told to end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        signal.pause()


def transfer(engine: Engine) -> dict[str, str]:
    """Return NIXL's configuration for the same role."""
    config = {
        "kv_connector": "NixlConnector",
        "kv_role": engine.role,
        "kv_buffer_device": "cpu",
    }
    if engine.role == "kv_consumer":
        config["kv_load_failure_policy"] = "fail"
    return config


def side_channel(engine: Engine, port: int) -> dict[str, str]:
    """Return where NIXL's handshake listens: at the first rank's port."""
    return {
        "VLLM_NIXL_SIDE_CHANNEL_HOST": engine.address,
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(port),
    }


def start(engine: Engine, config: dict[str, str], environment: dict[str, str]) -> None:
    """Become real vLLM on one CPU worker."""
    words = [*engine.words, "--dtype", "float32"]
    if "--enforce-eager" not in words:
        words.append("--enforce-eager")
    if config:
        words += ["--kv-transfer-config", json.dumps(config)]
    own = {
        "UCX_TLS": "tcp",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    if engine.address.startswith("127."):
        own["GLOO_SOCKET_IFNAME"] = "lo"
    os.execve(REAL, [REAL, *words], {**os.environ, **own, **environment})
