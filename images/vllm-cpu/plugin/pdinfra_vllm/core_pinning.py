"""Leave a NIXL worker on all the cores its container may use.

vLLM pins a CPU worker that has a NIXL connector to the last core of each NUMA
node. Two engines on one host then share one core while the others idle.
"""

from __future__ import annotations

from typing import Any


def apply() -> bool:
    """Return whether the fix was applied now."""
    try:
        from vllm.platforms.cpu import CpuPlatform
    except ImportError:
        return False
    platform: Any = CpuPlatform
    if platform.discover_numa_topology is _no_numa_nodes:
        return False
    # Only the NIXL worker asks for it, and an empty answer means "do not pin".
    platform.discover_numa_topology = staticmethod(_no_numa_nodes)
    return True


def _no_numa_nodes() -> list[list[int]]:
    return []
