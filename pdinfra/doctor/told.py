"""What an engine was told on its command line: the last word counts, as in vLLM."""

from __future__ import annotations

import re

from pdinfra.model.plan import ContainerSpec

VLLM_SHARE = 0.92
"""vLLM's own --gpu-memory-utilization (0.32, config/cache.py; older releases: 0.9)."""


def option(spec: ContainerSpec, name: str) -> str:
    """Return the value of an option, without its dashes in front; empty if it is not there."""
    given = re.findall(rf"--{name}[= ](\S+)", " ".join(spec.command))
    return str(given[-1]) if given else ""


def memory_share(spec: ContainerSpec) -> float:
    """Return the share of a card's memory that the engine was told to take."""
    try:
        return float(option(spec, "gpu-memory-utilization"))
    except ValueError:
        return VLLM_SHARE
