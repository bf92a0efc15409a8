"""Files of the host that follow from the state: the installed tools, version files, hccn.conf."""

from __future__ import annotations

from . import hccn_conf, mounted
from .host import (
    DRIVER,
    FIRMWARE,
    HCCN_TOOL,
    HCCN_TOOL_LINK,
    HOME,
    NPU_SMI,
    NPU_SMI_SBIN,
    UPGRADE_TOOL,
    Host,
)
from .nodes import make_nodes
from .state import State
from .versions import OLD_DRIVER, OLD_FIRMWARE, driver_info, firmware_info

SCRIPT = """\
#!/usr/bin/python3
# pdinfra's SIMULATOR of {name}; it is no part of a real driver.
import sys

sys.path.insert(0, {home!r})

from simulator.{module} import main

sys.exit(main({arguments}sys.argv[1:]))
"""
DRIVER_INFO = f"{DRIVER}/version.info"
FIRMWARE_INFO = f"{FIRMWARE}/version.info"
KEPT = ".pdinfra-sim"
"""A version file that a fault overlays is kept beside it under this suffix."""


def script(name: str, module: str, arguments: str = "") -> str:
    """Return an executable that runs a module of the simulator."""
    return SCRIPT.format(name=name, home=str(HOME), module=module, arguments=arguments)


def settle(host: Host, state: State) -> None:
    """Make everything that follows from the state so, faults included."""
    make_nodes(host, state)
    hccn_conf.write(host, state)
    if host.read(DRIVER_INFO) is not None:
        _tools(host, state)
        mounted.logs(host)
    mounted.write(host, state)
    _overlay(host, DRIVER_INFO, driver_info(OLD_DRIVER), on=state.on("driver-old"))
    _overlay(host, FIRMWARE_INFO, firmware_info(OLD_FIRMWARE), on=state.on("firmware-old"))


def _tools(host: Host, state: State) -> None:
    """Put the driver's tools where they belong, or where a fault has moved them."""
    place = None if state.on("npu-smi-missing") else NPU_SMI
    if place and state.on("no-npu-smi-in-bin"):
        place = NPU_SMI_SBIN
    for path in (NPU_SMI, NPU_SMI_SBIN):
        if path == place:
            host.write(path, script("npu-smi", "npu_smi"), 0o755)
        else:
            host.remove(path)
    host.write(UPGRADE_TOOL, script("upgrade-tool", "upgrade_tool"), 0o755)
    if state.on("hccn-tool-missing"):
        host.remove(HCCN_TOOL)
        host.remove(HCCN_TOOL_LINK)
        return
    host.write(HCCN_TOOL, script("hccn_tool", "hccn_tool"), 0o755)
    link = host.path(HCCN_TOOL_LINK)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(HCCN_TOOL)


def _overlay(host: Host, path: str, text: str, *, on: bool) -> None:
    """Show a fault's text instead of a file's own, and bring the file back afterwards."""
    kept = host.path(path + KEPT)
    if on and host.path(path).exists() and not kept.exists():
        host.path(path).rename(kept)
        host.write(path, text)
    if not on and kept.exists():
        kept.replace(host.path(path))
