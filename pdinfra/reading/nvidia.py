"""What NVIDIA's tools said → facts. Pure; tested with captured outputs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any

from pdinfra.model.facts import GpuFact, NvidiaFact

MIB = 1024**2
COLUMNS = 6
"""index, name, driver_version, memory.total, memory.used, uuid: what the facts module asks for."""


def nvidia_fact(raw: Mapping[str, Any]) -> NvidiaFact:
    """Read the answer of ``nvidia-smi --query-gpu`` and whether the container toolkit is there."""
    smi = raw["smi"]
    toolkit = bool(raw["toolkit"])
    if smi["rc"] != 0:
        return NvidiaFact(error=_error(smi), toolkit=toolkit)
    gpus = tuple(_gpus(smi["stdout"]))
    error = None if gpus else f"nvidia-smi lists no GPU ({smi['stdout'].strip() or 'no output'})"
    return NvidiaFact(error=error, gpus=gpus, toolkit=toolkit)


def _error(smi: Mapping[str, Any]) -> str:
    """Return nvidia-smi's own first line: it writes its errors to stdout."""
    said = f"{smi['stdout']}\n{smi['stderr']}".strip().splitlines()
    line = said[0].strip() if said else "it said nothing"
    return line if smi["rc"] is None else f"{line} (exit code {smi['rc']})"


def _gpus(text: str) -> Iterator[GpuFact]:
    """Yield the GPUs of the CSV (no header, no units: memory is in MiB)."""
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != COLUMNS or not row[0].strip().isdigit():
            continue
        index, name, driver, total, used, uuid = (cell.strip() for cell in row)
        yield GpuFact(
            index=int(index),
            name=name,
            driver=driver,
            memory_total=_bytes(total),
            memory_used=_bytes(used),
            uuid=uuid,
        )


def _bytes(mib: str) -> int:
    """Return MiB as bytes; 0 where the GPU has no such number (``[N/A]``: memory of the host)."""
    return int(mib) * MIB if mib.isdigit() else 0
