"""The version files of an accelerator's driver → facts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pdinfra.model.facts import DriverFact

DRIVER = "/usr/local/Ascend/driver/version.info"
FIRMWARE = "/usr/local/Ascend/firmware/version.info"
REBOOT = "/run/pdinfra/ascend-reboot"
"""Written by role ascend_driver; /run is empty after a reboot, which is what the file waits for."""


def driver_fact(files: Mapping[str, str | None]) -> DriverFact:
    """Read what is installed, and what waits for a reboot."""
    return DriverFact(
        driver=_version(files.get(DRIVER)),
        firmware=_version(files.get(FIRMWARE)),
        reboot=(files.get(REBOOT) or "").strip(),
    )


def _version(text: str | None) -> str:
    """Return the version that a version.info names, or nothing."""
    found = re.search(r"^Version=(\S+)", text or "", re.M)
    return found[1] if found else ""
