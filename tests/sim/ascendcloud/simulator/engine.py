"""The real vLLM on the CPU below a simulated instance, as pdinfra's stack `native` starts it."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

from . import member
from .options import Options
from .tables import Tables

KV_ROLE = {"prefill": "kv_producer", "decode": "kv_consumer"}
PORTS, SLOT = 20000, 10
"""Internal ports: an instance has the ten from 20000 + 10 * (--port modulo 1000) on."""


def ports(port: int) -> tuple[int, int]:
    """Return NIXL's side channel and the first port that vLLM uses between its processes."""
    first = PORTS + SLOT * (port % 1000)
    return first, first + 1


def command(tables: Tables, options: Options) -> list[str]:
    """Return vLLM's command line. What the simulator needs comes last, where it wins."""
    kv: dict[str, Any] = {
        "kv_connector": "NixlConnector",
        "kv_role": KV_ROLE[tables.role],
        "kv_buffer_device": "cpu",
    }
    if tables.role == "decode":
        kv["kv_load_failure_policy"] = "recompute"
    sizes = {
        "--max-model-len": options.max_model_len,
        "--max-num-batched-tokens": options.max_num_batched_tokens,
    }
    return [
        "vllm", "serve", options.model,
        "--host", options.host,
        "--port", str(options.port),
        *[word for name, size in sizes.items() if size for word in (name, str(size))],
        *options.rest,
        "--served-model-name", *options.model_names,
        "--tensor-parallel-size", "1",
        "--dtype", "float32",
        "--enforce-eager",
        "--kv-transfer-config", json.dumps(kv),
        "--middleware", f"{member.__name__}.Middleware",
    ]  # fmt: skip


def environment(tables: Tables, options: Options, address: str) -> dict[str, str]:
    """Return the variables that vLLM gets besides the container's own. address: of server_ip."""
    side_channel, internal = ports(options.port)
    env = {
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
        "UCX_TLS": "tcp",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_HOST_IP": address,
        "VLLM_NIXL_SIDE_CHANNEL_HOST": address,
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(side_channel),
        "VLLM_PORT": str(internal),
        member.VARIABLE: json.dumps(member.identity(tables, options)),
    }
    if ip_address(address).is_loopback:
        env["GLOO_SOCKET_IFNAME"] = "lo"
    return env
