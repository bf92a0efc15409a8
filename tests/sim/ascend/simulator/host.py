"""Where things are on the simulated host, and who may do what."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
"""The simulator's own folder, /opt/pdinfra-sim on a lab host."""
ROOT_VARIABLE = "PDINFRA_SIM_ROOT"
"""Environment variable: a folder that takes the place of / (for tests without root)."""

STATE = "/var/lib/pdinfra-sim/state.json"
STATE_LOCK = "/var/lib/pdinfra-sim/state.lock"
HCCN_LOCK = "/var/lib/pdinfra-sim/hccn_tool.lock"
INSTALL_LOCK = "/var/lib/pdinfra-sim/install.lock"
HCCN_CONF = "/etc/hccn.conf"
INSTALL_INFO = "/etc/ascend_install.info"
INSTALL_PATH = "/usr/local/Ascend"
DRIVER = f"{INSTALL_PATH}/driver"
FIRMWARE = f"{INSTALL_PATH}/firmware"
HCCN_TOOL = f"{DRIVER}/tools/hccn_tool"
HCCN_TOOL_LINK = "/usr/bin/hccn_tool"
UPGRADE_TOOL = f"{DRIVER}/tools/upgrade-tool"
NPU_SMI = "/usr/local/bin/npu-smi"
NPU_SMI_SBIN = "/usr/local/sbin/npu-smi"
DCMI = "/usr/local/dcmi"
LOGS = "/var/log/ascend_seclog"


class BusyError(Exception):
    """Another process holds the lock."""


@dataclass(frozen=True)
class Host:
    """The machine, or a folder that takes its place."""

    root: Path = Path("/")

    @classmethod
    def current(cls) -> Host:
        """Return the machine, or the folder that the environment names."""
        return cls(Path(os.environ.get(ROOT_VARIABLE, "/")))

    @property
    def real(self) -> bool:
        """Tell whether this is a machine and not a folder."""
        return self.root == Path("/")

    def path(self, absolute: str) -> Path:
        """Return where an absolute path of the host is."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str | None:
        """Return a file's text, or None where there is none."""
        try:
            return self.path(absolute).read_text()
        except OSError:
            return None

    def write(self, absolute: str, text: str, mode: int = 0o644) -> None:
        """Write a file with its folders."""
        path = self.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def remove(self, absolute: str) -> None:
        """Remove a file or link, if it is there."""
        self.path(absolute).unlink(missing_ok=True)

    @contextmanager
    def lock(self, absolute: str, *, wait: bool) -> Iterator[None]:
        """Hold a lock. Raises BusyError when it is taken and the caller will not wait."""
        path = self.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise BusyError(absolute) from error
            yield


def is_root() -> bool:
    """Tell whether the caller is root."""
    return os.geteuid() == 0
