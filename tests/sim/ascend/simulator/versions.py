"""What driver and firmware releases say of themselves in their version.info files.

Rows 24.1.rc2.2 to 25.3.rc1 are from captured files; fields that no capture shows are marked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class DriverRelease:
    """A driver release, and the firmware that ships with it."""

    version: str
    generation: int
    build: str
    firmware_range: str
    firmware: str


RELEASES: tuple[DriverRelease, ...] = (
    # Firmware range and version of this row: assumed.
    DriverRelease("24.1.rc2.2", 18, "SPC001B233", "[7.0.0,7.6.99]", "7.3.0.2.220"),
    DriverRelease("24.1.0", 19, "SPC002B226", "[7.0.0,7.6.99]", "7.5.0.2.220"),
    DriverRelease("25.0.rc1.1", 21, "SPC002B220", "[7.0.0,7.7.99]", "7.7.0.1.231"),
    DriverRelease("25.3.rc1", 23, "SPC002B212", "[7.0.0,8.9.9]", "7.8.0.2.212"),
    # Everything but the name of this row: assumed.
    DriverRelease("26.1.0", 25, "SPC001B210", "[7.0.0,9.9.9]", "8.1.0.1.210"),
)
OLD_DRIVER = "24.1.rc2.2"
OLD_FIRMWARE = "6.4.12.1.241"


def release(version: str) -> DriverRelease:
    """Return a driver's release; one that is not listed is like the last one before it."""
    known = [row for row in RELEASES if _order(row.version) <= _order(version)]
    return (known or RELEASES[:1])[-1]


def release_of_firmware(version: str) -> DriverRelease:
    """Return the release that a firmware ships with, by its version."""
    known = [row for row in RELEASES if _order(row.firmware) <= _order(version)]
    return (known or RELEASES[:1])[-1]


def fits(driver: str, firmware: str) -> bool:
    """Tell whether a firmware is in the range that the driver names."""
    low, high = release(driver).firmware_range.strip("[]").split(",")
    if not _order(firmware):
        return False
    return _order(low) <= _order(firmware)[:3] <= _order(high)


def driver_info(version: str) -> str:
    """Return /usr/local/Ascend/driver/version.info."""
    row = release(version)
    compatible = ",".join(
        f"[V100R001C{number}]" for number in range(19, max(row.generation, 19) + 1)
    )
    if row.generation < 19:
        compatible = f"[V100R001C{row.generation}]"
    return f"""\
Version={version}
ascendhal_version=7.35.23
aicpu_version=1.0
tdt_version=1.0
log_version=1.0
prof_version=2.0
dvppkernels_version=1.1
tsfw_version=1.0
Innerversion=V100R001C{row.generation}{row.build}
compatible_version={compatible}
compatible_version_fw={row.firmware_range}
package_version={version}
"""


def firmware_info(version: str) -> str:
    """Return /usr/local/Ascend/firmware/version.info."""
    return f"""\
Version={version}
firmware_version=1.0
package_version={release_of_firmware(version).version}
compatible_version_drv=[23.0.0,23.0.0.],[24.0,24.0.],[24.1,24.1.],[25.0,25.0.],[25.3,25.3.],[26.1,26.1.]
"""


def _order(version: str) -> tuple[int, ...]:
    """Return a version's sort key; a release candidate comes before its release."""
    parts = re.findall(r"rc|\d+", version)
    return tuple(-1 if part == "rc" else int(part) for part in parts)
