"""The command line as the plugin sees it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KV_PORT = 14579
"""vLLM's default of kv_port."""


@dataclass(frozen=True)
class Engine:
    """One `vllm serve` with its environment."""

    version: str
    transfer: Mapping[str, Any]
    ranks: int
    words: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def connector(self) -> str:
        """Return the connector's name."""
        return str(self.transfer.get("kv_connector", ""))

    @property
    def role(self) -> str:
        """Return kv_role."""
        return str(self.transfer.get("kv_role"))

    @property
    def address(self) -> str:
        """Return what vLLM's get_ip() returns."""
        return self.environment.get("VLLM_HOST_IP", "")

    @property
    def kv_port(self) -> int:
        """Return kv_port: vLLM makes a number of a text. Raises ValueError where it is none."""
        return int(self.transfer.get("kv_port", KV_PORT))

    @property
    def devices(self) -> list[str]:
        """Return ASCEND_RT_VISIBLE_DEVICES."""
        return [d for d in self.environment.get("ASCEND_RT_VISIBLE_DEVICES", "").split(",") if d]


def read(words: Sequence[str], environment: Mapping[str, str]) -> Engine:
    """Return what a command line asks for; the words that only the plugin knows are taken out."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--kv-transfer-config", default="")
    # Said anew for the CPU.
    parser.add_argument("--dtype")
    parser.add_argument("--gpu-memory-utilization")
    parser.add_argument("--max-model-len", type=int, default=8192)
    known, rest = parser.parse_known_args(list(words))
    rest += ["--max-model-len", str(known.max_model_len)]
    return Engine(
        version=environment["PDINFRA_SIM_VERSION"],
        transfer=json.loads(known.kv_transfer_config) if known.kv_transfer_config else {},
        ranks=known.tensor_parallel_size,
        words=tuple(rest),
        environment=environment,
    )
