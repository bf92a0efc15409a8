"""What happens at every start of the simulated host."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Sequence

from . import files, hccn_conf, installer
from .host import STATE_LOCK, Host
from .installer import USER, Package, Request
from .profiles import PROFILES
from .state import State, edit, load, save
from .versions import release


def main(argv: Sequence[str]) -> int:
    """Boot the host; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="boot", description="pdinfra's SIMULATOR of an Ascend host: run at every boot."
    )
    parser.add_argument("--npus", type=int, required=True, help="devices: chips, on A3 two per NPU")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="a2-98")
    parser.add_argument("--host-index", type=int, required=True, help="1 to 254")
    parser.add_argument("--driver", help="version to install at the first boot, or none")
    wanted = parser.parse_args(argv)
    host = Host.current()
    profile = PROFILES[wanted.profile]
    driver = wanted.driver or profile.driver
    first = _first_boot(host, State(wanted.npus, wanted.profile, wanted.host_index))
    if first and driver != "none" and (code := _install(host, driver)):
        return code
    boot(host)
    return 0


def boot(host: Host) -> None:
    """Do what every boot does: nodes are made anew, what is on disk comes into force."""
    with edit(host) as state:
        state.driver_running = installer.installed(host, "driver")
        state.firmware_running = installer.installed(host, "firmware")
        if state.driver_running is not None:
            hccn_conf.administrator(state)
        files.settle(host, state)


def _first_boot(host: Host, fresh: State) -> bool:
    """Keep the state of earlier boots with the hardware as it is now; tell whether none was."""
    with host.lock(STATE_LOCK, wait=True):
        state = load(host)
        if state is not None:
            fresh.nics, fresh.faults = state.nics, state.faults
            fresh.driver_running = state.driver_running
            fresh.firmware_running = state.firmware_running
        save(host, fresh)
        return state is None


def _install(host: Host, driver: str) -> int:
    """Install driver and firmware by the packages' own code; return the first bad exit code."""
    _add_user(host)
    packages = (
        Package("driver", driver, None, "ok"),
        Package("firmware", release(driver).firmware, None, "ok"),
    )
    for package in packages:
        code = installer.run(host, package, Request("full", for_all=True))
        if code:
            return code
    return 0


def _add_user(host: Host) -> None:
    """Add the driver's user, as an administrator does before the first installation."""
    if f"{USER}:" in (host.read("/etc/passwd") or ""):
        return
    if host.real and shutil.which("useradd"):
        subprocess.run(["groupadd", "--force", USER], check=True)
        home = f"/home/{USER}"
        subprocess.run(
            ["useradd", "-g", USER, "-d", home, "-m", "-s", "/bin/bash", USER], check=True
        )
        return
    for path, line in (
        ("/etc/passwd", f"{USER}:x:1000:1000::/home/{USER}:/bin/bash\n"),
        ("/etc/group", f"{USER}:x:1000:\n"),
    ):
        host.write(path, (host.read(path) or "") + line)
