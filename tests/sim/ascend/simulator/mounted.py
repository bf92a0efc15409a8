"""What containers see of the cards: they have the driver's folder, and no `hccn_tool` that runs.

The real one's libraries ask the driver; a simulated engine reads this file instead.
"""

from __future__ import annotations

import json

from . import hccn_conf
from .host import DRIVER, Host
from .state import State

STATE = f"{DRIVER}/pdinfra-sim.json"
SLOG = "/var/log/npu"
CODES = {"no-driver": -8005, "occupied": -8020, "driver-partial": -9005}
"""What the driver says to everyone while a fault is on (DCMI codes)."""


def write(host: Host, state: State) -> None:
    """Write the file as the hardware is now. No driver, no file."""
    if host.read(f"{DRIVER}/version.info") is None:
        return
    code = next((code for fault, code in CODES.items() if state.on(fault)), 0)
    if state.driver_running is None:
        code = CODES["no-driver"]
    devices = {
        str(device): {
            "address": hccn_conf.in_force(state, device).address,
            "link": "DOWN" if state.on(_link(state), device) else "UP",
        }
        for device in range(state.devices)
    }
    # A reader sees the old or the new one, never a part.
    fresh = f"{STATE}.new"
    host.write(fresh, json.dumps({"dcmi": code, "devices": devices}, indent=1) + "\n")
    host.path(fresh).replace(host.path(STATE))


def logs(host: Host) -> None:
    """Make the driver's log folder; containers have it as /usr/slog, and write there as any user.

    The mode is assumed.
    """
    folder = host.path(SLOG)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o1777)


def _link(state: State) -> str:
    """Return the fault that cuts a device off: on A3 cards talk over the virtual port."""
    return "vnic-down" if state.profile.generation == "A3" else "link-down"
