"""What the simulator remembers of the host between calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from .faults import Active
from .host import STATE, STATE_LOCK, Host
from .profiles import PROFILES, Profile
from .versions import OLD_DRIVER, OLD_FIRMWARE


@dataclass
class Nic:
    """A device's own network, as an administrator set it."""

    address: str = ""
    netmask: str = ""
    gateway: str = ""
    netdetect: str = ""
    tls: int = 0


@dataclass
class State:
    """The simulated hardware. ``*_running`` are the versions in force, not those on disk."""

    devices: int
    profile_name: str
    host_index: int
    driver_running: str | None = None
    firmware_running: str | None = None
    nics: dict[int, Nic] = field(default_factory=dict)
    faults: list[Active] = field(default_factory=list)

    @property
    def profile(self) -> Profile:
        """The kind of machine."""
        return PROFILES[self.profile_name]

    @property
    def driver(self) -> str:
        """The driver's version as the tools show it."""
        return OLD_DRIVER if self.on("driver-old") else self.driver_running or ""

    @property
    def firmware(self) -> str:
        """The firmware's version as the tools show it; empty without one."""
        return OLD_FIRMWARE if self.on("firmware-old") else self.firmware_running or ""

    def on(self, name: str, device: int | None = None) -> bool:
        """Tell whether a fault is on: for this device, or at all when none is asked for."""
        return any(
            fault.name == name and (device is None or fault.device in (None, device))
            for fault in self.faults
        )

    def peers(self, name: str, device: int) -> list[str | None]:
        """Return the peers of a fault that is on for a device; None stands for all."""
        return [f.peer for f in self.faults if f.name == name and f.device in (None, device)]

    def nic(self, device: int) -> Nic:
        """Return a device's network, empty as long as nobody has set it."""
        return self.nics.get(device, Nic())


def load(host: Host) -> State | None:
    """Return the state, or None on a host that was never booted as a simulated one."""
    text = host.read(STATE)
    if text is None:
        return None
    data = json.loads(text)
    data["nics"] = {int(device): Nic(**nic) for device, nic in data["nics"].items()}
    data["faults"] = [Active(**fault) for fault in data["faults"]]
    return State(**data)


def save(host: Host, state: State) -> None:
    """Write the state; a reader sees the old or the new one, never a part."""
    fresh = f"{STATE}.new"
    host.write(fresh, json.dumps(asdict(state), indent=1) + "\n")
    host.path(fresh).replace(host.path(STATE))


@contextmanager
def edit(host: Host) -> Iterator[State]:
    """Load, let the caller change, save. Raises SystemExit on a host that was never booted."""
    with host.lock(STATE_LOCK, wait=True):
        state = load(host)
        if state is None:
            raise SystemExit("pdinfra-sim: no state; run `boot` first")
        yield state
        save(host, state)
