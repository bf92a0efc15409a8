"""The operator's patches of an engine image, as the list that apply_patches.py works off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Tool = Literal["am", "apply"]

HEX = re.compile(r"[0-9a-f]{64}")
VLLM = "/vllm-workspace/vllm"
VLLM_ASCEND = "/vllm-workspace/vllm-ascend"
"""Where vllm-ascend's images have the two sources (their Dockerfile.openEuler)."""


@dataclass(frozen=True)
class Patch:
    """One patch: the file's name, what it is by content, the repository, and which git command.

    ``am`` for a mail of ``git format-patch``, ``apply`` for a bare diff.
    """

    file: str
    sha256: str
    target: str
    tool: Tool


def guide_patches(
    connector: str, connector_sha256: str, fast_load: tuple[str, str] | None = None
) -> tuple[Patch, ...]:
    """Return the patches of the guides in their order: vLLM's first, then vllm-ascend's.

    ``connector``: the guides' 0001-implement-chariot-ds-connector-..., or its later name;
    ``fast_load``: name and sha256 of the second guide's vllm.patch, if it is wanted.
    """
    first = (Patch(*fast_load, VLLM, "apply"),) if fast_load else ()
    return (*first, Patch(connector, connector_sha256, VLLM_ASCEND, "am"))


def problems(patches: Sequence[Patch]) -> list[str]:
    """Return everything that is wrong with a list of patches, each with its fix."""
    found = []
    seen: set[tuple[str, str]] = set()
    for patch in patches:
        if "/" in patch.file or patch.file in ("", ".", ".."):
            found.append(f"{patch.file!r} is no file's name. Fix: the name alone, without folders")
        if not HEX.fullmatch(patch.sha256):
            found.append(f"{patch.file}: no sha256. Fix: give its 64 hex digits, lower case")
        if not patch.target.startswith("/"):
            found.append(f"{patch.file}: target {patch.target!r} is not absolute")
        if patch.tool not in ("am", "apply"):
            found.append(f"{patch.file}: no tool {patch.tool!r}. Fix: am or apply")
        if (patch.file, patch.target) in seen:
            found.append(f"{patch.file}: twice for {patch.target}. Fix: list it once")
        seen.add((patch.file, patch.target))
    return found


def manifest(patches: Iterable[Patch]) -> str:
    """Return the list as the JSON document for the image build; the same for the same list."""
    return json.dumps([asdict(patch) for patch in patches], indent=2, ensure_ascii=False) + "\n"
