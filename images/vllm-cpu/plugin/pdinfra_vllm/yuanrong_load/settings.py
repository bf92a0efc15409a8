"""What ``--model-loader-extra-config`` may say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MIB = 1024 * 1024

WORKER_VARIABLE = "DS_WORKER_ADDR"
"""Environment variable that names the worker where the configuration does not, as in
openYuanrong's own vLLM patches."""


@dataclass(frozen=True)
class Settings:
    """How one engine uses the data system for its weights."""

    host: str
    """Address of the host's data-system worker."""
    port: int
    transport: str = "auto"
    """``host`` memory, ``device`` to device (Ascend), or ``auto``: device where there are NPUs."""
    chunk_mb: int = 32
    """Size of one object in the data system, MiB."""
    request_ms: int = 3000
    """Longest time for one request, milliseconds. The engine stands still for it at worst."""
    connect_ms: int = 500
    """Longest time until the worker's port answers, milliseconds."""
    fetch_s: int = 120
    """Longest time for a whole fetch, seconds."""
    lease_s: int = 3600
    """How long published weights outlive the last instance that uses them, seconds."""
    room_mb: int = 1_000_000
    """The most that this rank's weights may take of the data system's memory, MiB. What is more is
    not tried: the data system would give up what it can (KV blocks) before it refuses."""
    publish: bool = True
    """Whether weights that were read from disk are published."""
    disk_format: str = "auto"
    """vLLM's load format for the disk."""

    @property
    def chunk_bytes(self) -> int:
        """Size of one object, bytes."""
        return self.chunk_mb * MIB

    @property
    def worker(self) -> str:
        """The worker as ``host:port``."""
        return f"{self.host}:{self.port}"


def read(extra: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings.

    Raises ValueError, with every problem in one message: a wrong configuration is to
    be mended, not to be worked around by a slow load.
    """
    values = dict(extra)
    problems: list[str] = []
    worker = values.pop("worker", environ.get(WORKER_VARIABLE))
    host, port = _address(worker, problems)
    known = {field.name: field.default for field in fields(Settings)[2:]}
    for name, value in values.items():
        if name not in known:
            problems.append(f"{name} is none of worker, {', '.join(known)}")
        elif type(value) is not type(known[name]):
            problems.append(f"{name} must be {type(known[name]).__name__}, not {value!r}")
        elif type(value) is int and value < 1:
            problems.append(f"{name} must be 1 or more, not {value}")
    if values.get("transport", "auto") not in ("auto", "host", "device"):
        problems.append(f"transport must be auto, host or device, not {values['transport']!r}")
    if problems:
        raise ValueError(
            f"model_loader_extra_config of load format yuanrong: {'; '.join(problems)}"
        )
    return Settings(host, port, **values)


def _address(worker: object, problems: list[str]) -> tuple[str, int]:
    """Return host and port; note a problem where there are none."""
    host, _, port = str(worker or "").rpartition(":")
    if host and port.isdigit() and 0 < int(port) < 65536:
        return host.strip("[]"), int(port)
    problems.append(f'worker must be "host:port", not {worker!r}')
    return "", 0
