"""What the driver's and the firmware's installers do and say, return codes included.

0: installed and in force. 1: failed. 2: installed, in force only after the host was restarted.
"""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from . import files
from .host import (
    DCMI,
    DRIVER,
    FIRMWARE,
    HCCN_CONF,
    HCCN_TOOL_LINK,
    INSTALL_INFO,
    INSTALL_LOCK,
    INSTALL_PATH,
    LOGS,
    NPU_SMI,
    NPU_SMI_SBIN,
    BusyError,
    Host,
    is_root,
)
from .nodes import holders
from .state import State, edit, load
from .versions import driver_info, firmware_info, release

Kind = Literal["driver", "firmware"]
Outcome = Literal["ok", "fail", "reboot"]
Mode = Literal["full", "upgrade", "uninstall"]
USER = "HwHiAiUser"
STATUS_SINCE = 23
"""First driver generation that writes Driver_Install_Status (assumed: "newer" in the captures)."""
FOLDERS: dict[Kind, str] = {"driver": DRIVER, "firmware": FIRMWARE}


@dataclass(frozen=True)
class Package:
    """A ``.run`` package: what it holds, and how installing it ends."""

    kind: Kind
    version: str
    arch: str | None
    outcome: Outcome


@dataclass(frozen=True)
class Request:
    """What the caller asked of the package."""

    mode: Mode
    user: str | None = None
    group: str | None = None
    for_all: bool = False


class InstallError(Exception):
    """The installer refuses, or fails on the way."""


def run(host: Host, package: Package, request: Request) -> int:
    """Install, upgrade or uninstall; print and log as the installer does. Returns its code."""
    title = package.kind.capitalize()
    try:
        if not is_root():
            raise InstallError("ERR_NO:0x0093;ERR_DES:The user is not root, use root to run it")
        with host.lock(INSTALL_LOCK, wait=False):
            _say(host, title, "INFO", f"Start time: {time.strftime('%Y-%m-%d %H:%M:%S')}")
            _check(host, package, request)
            if request.mode == "uninstall":
                return _uninstall(host, package.kind)
            return _install(host, package, request)
    except BusyError:
        text = "ERR_NO:0x0094;ERR_DES:Another install/upgrade process is running"
        _say(host, title, "ERROR", text)
    except InstallError as error:
        for line in str(error).splitlines():
            _say(host, title, "ERROR", line)
    return 1


def installed(host: Host, kind: Kind) -> str | None:
    """Return the version on disk, or None."""
    text = host.read(f"{FOLDERS[kind]}/version.info")
    return text.splitlines()[0].removeprefix("Version=") if text else None


def _check(host: Host, package: Package, request: Request) -> None:
    """Refuse what the real installer refuses. Raises InstallError."""
    there = installed(host, package.kind)
    if request.mode in ("upgrade", "uninstall") and there is None:
        raise InstallError(f"ERR_NO:0x0080;ERR_DES:The {package.kind} is not installed")
    if request.mode == "uninstall":
        return
    if package.arch not in (None, platform.machine()):
        raise InstallError("The current installation package and environment is not match")
    if request.mode == "full" and there is not None:
        text = f"The {package.kind} {there} is installed already, please use --upgrade"
        raise InstallError(f"ERR_NO:0x0004;ERR_DES:{text}")
    _check_user(host, package, request)
    state = load(host)
    if state is None:
        raise InstallError("ERR_NO:0x0004;ERR_DES:There is no NPU card on this server")
    if package.kind == "firmware" and state.driver_running is None:
        raise InstallError("ERR_NO:0x0080;ERR_DES:The driver is not running, install it first")
    busy = holders(host)
    if busy or state.on("process") or state.on("process-nameless"):
        raise InstallError(
            "The davinci nodes are occupied by some processes, please stop processes and "
            "install or uninstall the package again" + "".join(f"\npid {pid}" for pid in busy)
        )


def _check_user(host: Host, package: Package, request: Request) -> None:
    """Check the user that the driver runs as. Raises InstallError."""
    last = _install_info(host)
    user = request.user or last.get("UserName", USER)
    group = request.group or last.get("UserGroup", USER)
    users = _accounts(host, "/etc/passwd")
    groups = _accounts(host, "/etc/group")
    if user not in users or group not in groups:
        raise InstallError(f"ERR_NO:0x0091;ERR_DES:{user}:{group} does not exist, please add it")
    members = groups[group][2].split(",")
    if users[user][2] != groups[group][1] and user not in members:
        raise InstallError(f"ERR_NO:0x0096;ERR_DES:{user} is not in the group {group}")
    if user == "root" and not request.for_all:
        raise InstallError("ERR_NO:0x0004;ERR_DES:root:root needs --install-for-all")
    if last.get("UserName", user) != user:
        text = f"The user {user} differs from {last['UserName']} of the last installation"
        raise InstallError(f"ERR_NO:0x0095;ERR_DES:{text}")


def _accounts(host: Host, path: str) -> dict[str, list[str]]:
    """Return the fields of passwd or group by name."""
    rows = [line.split(":") for line in (host.read(path) or "").splitlines() if ":" in line]
    return {row[0]: row[1:] for row in rows}


def _install(host: Host, package: Package, request: Request) -> int:
    """Install or upgrade; the caller has checked. Returns 0 or 2."""
    title = package.kind.capitalize()
    if package.kind == "driver":
        print("driver install type: DKMS")
    for percent in (10, 30, 40, 90) if package.outcome != "fail" else (10,):
        print(f"upgradePercentage:{percent}%")
    if package.outcome == "fail":
        raise InstallError(_failure(package.kind))
    print("upgradePercentage:100%")
    with edit(host) as state:
        _put_files(host, package, request, state)
        if package.outcome == "ok":
            _take_effect(package, state)
        files.settle(host, state)
    for line in _success(package, state.devices):
        _say(host, title, "INFO", line)
    return 0 if package.outcome == "ok" else 2


def _failure(kind: Kind) -> str:
    """Return what a failing package says."""
    if kind == "driver":
        return (
            "Drv_dkms_env_check failed, details in "
            f"{LOGS}/ascend_install.log\n"
            "Driver package install failed, please retry after uninstall and reboot!"
        )
    return "The firmware of [0] chips are successfully upgraded.\nFirmware package install failed"


def _take_effect(package: Package, state: State) -> None:
    """Put what was installed in force, as a hot reset does."""
    if package.kind == "driver":
        state.driver_running = package.version
    else:
        state.firmware_running = package.version


def _success(package: Package, devices: int) -> Iterator[str]:
    """Return what the installer says in the end."""
    if package.kind == "firmware":
        yield f"The firmware of [{devices}] chips are successfully upgraded."
    if package.outcome == "reboot":
        yield {
            "driver": "Driver package installed successfully! "
            "Reboot needed for installation/upgrade to take effect!",
            "firmware": "Firmware package installed successfully! Reboot now or after driver "
            "installation for the installation/upgrade to take effect.",
        }[package.kind]
        return
    yield "Waiting for device startup..."
    yield "Device startup success"
    title = package.kind.capitalize()
    yield f"{title} package installed successfully! The new version takes effect immediately."


def _put_files(host: Host, package: Package, request: Request, state: State) -> None:
    """Leave the files that the real package leaves."""
    folder = FOLDERS[package.kind]
    info = driver_info if package.kind == "driver" else firmware_info
    host.path(f"{folder}/version.info{files.KEPT}").unlink(missing_ok=True)
    host.write(f"{folder}/version.info", info(package.version))
    host.write(
        f"{folder}/script/uninstall.sh",
        files.script("uninstall.sh", "run_package", f"['--uninstall-kind', {package.kind!r}] + "),
        0o755,
    )
    _write_install_info(host, package, request)
    if package.kind == "firmware":
        return
    host.write(f"{DRIVER}/lib64/common/README", "pdinfra's simulator: no real library.\n")
    host.write(f"{DRIVER}/lib64/driver/libascend_hal.so", "pdinfra's simulator: no library.\n")
    host.write(f"{DCMI}/libdcmi.so", "pdinfra's simulator: no real library.\n")
    if host.read(HCCN_CONF) is None and not state.on("hccn-conf-missing"):
        host.write(HCCN_CONF, "")


def _install_info(host: Host) -> dict[str, str]:
    """Return /etc/ascend_install.info by key."""
    lines = (host.read(INSTALL_INFO) or "").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _write_install_info(host: Host, package: Package, request: Request) -> None:
    """Add a package to /etc/ascend_install.info, in the real order of its lines."""
    known = _install_info(host)
    known.setdefault("UserName", request.user or USER)
    known.setdefault("UserGroup", request.group or USER)
    title = package.kind.capitalize()
    known[f"{title}_Install_Type"] = "full"
    known[f"{title}_Install_Path_Param"] = INSTALL_PATH
    if package.kind == "driver" and request.mode == "full":
        known["Driver_Install_For_All"] = "yes" if request.for_all else "no"
        known["Driver_Install_Mode"] = "normal"
        if release(package.version).generation >= STATUS_SINCE:
            known["Driver_Install_Status"] = "complete"
    order = ("User", "Driver", "Firmware")
    lines = [
        f"{key}={value}\n"
        for start in order
        for key, value in known.items()
        if key.startswith(start)
    ]
    host.write(INSTALL_INFO, "".join(lines))


def _uninstall(host: Host, kind: Kind) -> int:
    """Remove a package's files; what runs goes on until the host is restarted."""
    shutil.rmtree(host.path(FOLDERS[kind]), ignore_errors=True)
    title = kind.capitalize()
    known = {k: v for k, v in _install_info(host).items() if not k.startswith(title)}
    left = any(not key.startswith("User") for key in known)
    if left:
        host.write(INSTALL_INFO, "".join(f"{key}={value}\n" for key, value in known.items()))
    else:
        host.remove(INSTALL_INFO)
    with edit(host) as state:
        if kind == "driver":
            state.driver_running = None
            for path in (NPU_SMI, NPU_SMI_SBIN, HCCN_TOOL_LINK, HCCN_CONF):
                host.remove(path)
        else:
            state.firmware_running = None
    _say(host, title, "INFO", f"{title} package uninstalled successfully!")
    return 0


def _say(host: Host, title: str, level: str, text: str) -> None:
    """Print a line, and write it to the installer's log."""
    line = f"[{title}] [{time.strftime('%Y-%m-%d %H:%M:%S')}] [{level}]{text}"
    print(line)
    sys.stdout.flush()
    if not is_root():
        return
    log = host.path(f"{LOGS}/ascend_install.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as handle:
        handle.write(f"{line}\n")


def log_operation(host: Host, words: list[str], code: int) -> None:
    """Write one call to operation.log."""
    log = host.path(f"{LOGS}/operation.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as handle:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        handle.write(f"{stamp} root 127.0.0.1 {' '.join(words)} result={code}\n")
