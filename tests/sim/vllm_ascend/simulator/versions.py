"""What each version of vllm-ascend has. Kept apart from pdinfra's own table, which it is to check.

Source: vllm_ascend/distributed/__init__.py and envs.py of the tags; release notes.
"""

from __future__ import annotations

import re

DATADIST = "LLMDataDistCMgrConnector"
MOONCAKE = "MooncakeConnectorV1"
TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:rc(\d+))?")

Order = tuple[int, int, int, int]
RELEASE = 1000
"""A release is newer than all of its candidates."""


def order(version: str) -> Order:
    """Return a key to compare versions by. Raises ValueError for what is none."""
    found = TAG.match(version)
    if found is None:
        raise ValueError(f"{version!r} is no version of vllm-ascend")
    major, minor, patch, candidate = found.groups()
    return int(major), int(minor), int(patch), int(candidate) if candidate else RELEASE


def since(version: str, first: str) -> bool:
    """Tell whether a version is this one or newer."""
    return order(version) >= order(first)


def has_connector(version: str, name: str) -> bool:
    """Tell whether a version has a connector."""
    if name == DATADIST:
        return since(version, "v0.9.1") and not since(version, "v0.12.0rc1")
    return name == MOONCAKE and since(version, "v0.10.1rc1")


def port_variable(version: str) -> str:
    """Return the variable of LLMDataDist's port; another one is not read."""
    new = since(version, "v0.10.1rc1")
    return "VLLM_ASCEND_LLMDD_RPC_PORT" if new else "VLLM_LLMDD_RPC_PORT"
