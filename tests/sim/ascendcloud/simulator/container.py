"""What a container of an instance sees: its variables, and the files that were mounted into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .refusal import RefusalError

DRIVER = "/usr/local/Ascend/driver"
DRIVER_STATE = f"{DRIVER}/pdinfra-sim.json"
"""What the simulated driver of a lab host says of its cards."""
INSTALL_INFO = "/etc/ascend_install.info"
NPU_SMI = ("/usr/local/sbin/npu-smi", "/usr/local/bin/npu-smi")
MANAGERS = ("davinci_manager", "devmm_svm", "hisi_hdc")
SLOG = "/usr/slog"
"""The host's /var/log/npu: all containers of a host share it."""


@dataclass(frozen=True)
class Container:
    """The container this runs in, or, for tests, a folder and variables that take its place."""

    env: Mapping[str, str]
    root: Path = field(default=Path("/"))

    def path(self, absolute: str) -> Path:
        """Return where an absolute path of the container is."""
        return self.root / absolute.lstrip("/")

    def variable(self, name: str) -> str:
        """Return a variable. Raises RefusalError where it is missing or empty."""
        if value := self.env.get(name):
            return value
        raise RefusalError(f"environment variable {name} is not set")

    def nodes(self) -> list[int]:
        """Return the ids of the cards whose nodes the container has."""
        found = self.path("/dev").glob("davinci[0-9]*")
        return sorted(int(m[1]) for p in found if (m := re.fullmatch(r"davinci(\d+)", p.name)))
