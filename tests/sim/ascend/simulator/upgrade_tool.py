"""The simulated ``upgrade-tool``: tells the firmware's version per device."""

from __future__ import annotations

from collections.abc import Sequence

from .host import Host
from .state import load

HELP = "upgrade-tool: pdinfra's SIMULATOR. usage: --device_index -1 --component -1 --version"


def main(argv: Sequence[str]) -> int:
    """Run one call; return the exit code."""
    if list(argv) != ["--device_index", "-1", "--component", "-1", "--version"]:
        print(HELP)
        return 0 if "--help" in argv else 1
    state = load(Host.current())
    if state is None or state.driver_running is None or state.on("no-driver"):
        print("Get component version failed.")
        return 1
    for device in range(state.devices):
        version = state.firmware or "NA"
        print(f"Get component version({version}) succeed for deviceId({device}), componentType(0).")
    return 0
