"""The simulated ``npu-smi``: queries only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import tables
from .errors import ToolError
from .host import DRIVER, Host
from .state import State, load
from .versions import fits

HELP = """\
npu-smi: pdinfra's SIMULATOR of Huawei's npu-smi. It shows no real card.
usage: npu-smi info [-l | -m | -t TYPE -i NPU [-c CHIP]] | npu-smi -v
types: board, health, usages, topo, spod-info, proc-mem, common"""
NO_DRIVER = -8005
OCCUPIED = -8020
PARTIAL = -9005
PARAMETER = -8001
NO_DEVICE = -8008


class Parser(argparse.ArgumentParser):
    """argparse, with the real tool's words."""

    def error(self, message: str) -> NoReturn:
        """Refuse as the real tool does."""
        raise ToolError("Command or option is not found.", PARAMETER)


def main(argv: Sequence[str]) -> int:
    """Run one call; return the exit code (the low byte of DCMI's)."""
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    host = Host.current()
    try:
        print(answer(host, argv), end="")
    except ToolError as error:
        print(error)
        return error.exit_code
    return 0


def answer(host: Host, argv: Sequence[str]) -> str:
    """Return what a call prints. Raises ToolError."""
    tool = tool_version(host)
    if list(argv) == ["-v"]:
        return f"npu-smi version: {tool}\n"
    parser = Parser(add_help=False)
    parser.add_argument("verb", choices=["info"])
    parser.add_argument("-l", action="store_true", dest="list")
    parser.add_argument("-m", action="store_true", dest="mapping")
    parser.add_argument("-t", choices=sorted(QUERIES), dest="type")
    parser.add_argument("-i", type=int, dest="npu")
    parser.add_argument("-c", type=int, dest="chip")
    wanted = parser.parse_args(argv)
    state = opened(host)
    if wanted.list:
        return tables.listing(state)
    if wanted.mapping:
        return tables.mapping(state)
    if wanted.type == "topo":
        return tables.topo(state)
    if wanted.type:
        return queried(state, wanted.type, wanted.npu, wanted.chip)
    return tables.info(state, tool)


def tool_version(host: Host) -> str:
    """Return the version of the installed tool: it comes with the driver's package."""
    text = host.read(f"{DRIVER}/version.info") or "Version=unknown"
    return text.splitlines()[0].removeprefix("Version=")


def opened(host: Host) -> State:
    """Return the state as far as the driver gives access to it. Raises ToolError."""
    state = load(host)
    if state is None or state.driver_running is None or state.on("no-driver"):
        raise ToolError(
            "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
            f"dcmi module initialize failed. ret is {NO_DRIVER}",
            NO_DRIVER,
        )
    if state.on("occupied"):
        raise ToolError(
            f"dcmi model initialized failed, because the device is used. ret is {OCCUPIED}",
            OCCUPIED,
        )
    if state.on("driver-partial"):
        raise ToolError(f"npu get board type failed. ret is {PARTIAL}", PARTIAL)
    if state.on("no-card"):
        raise ToolError("There is no NPU card on this server.", 0)
    return state


def queried(state: State, kind: str, npu: int | None, chip: int | None) -> str:
    """Answer ``info -t KIND -i NPU [-c CHIP]``. Raises ToolError."""
    if npu is None:
        raise ToolError("Command or option is not found.", PARAMETER)
    per_npu = state.profile.chips_per_npu
    device = npu * per_npu + (chip or 0)
    if npu < 0 or device >= state.devices or (chip or 0) not in range(per_npu):
        raise ToolError(f"dcmi get card info failed. ret is {NO_DEVICE}", NO_DEVICE)
    return QUERIES[kind](state, device, chip is not None)


def _board(state: State, device: int, chip: bool) -> str:
    """Answer board: of the card, or of one chip."""
    profile = state.profile
    firmware = state.firmware or "NA"
    if chip:
        rows = {
            "NPU ID": profile.npu(device),
            "Chip ID": profile.chip_id(device),
            "Chip Type": "Ascend",
            **({"NPU Name": "910_9392"} if profile.generation == "A3" else {}),
            "Chip Name": profile.chip,
            "Chip Version": "V1",
            "Board ID": "0x02",
            "PCB ID": "NA",
            "BOM ID": "1",
            "VDie ID": f"2D86E4C6 203077C{device:X} 05ABC76A 3A1203D2 4A000000",
            "NDie ID": f"2D86E4C6 203077C{device:X} 05ABC76A 3A1203D2 4A000001",
            "Chip Position ID": profile.chip_id(device),
            "PCIe Bus Info": profile.bus(device),
            "Firmware Version": firmware,
        }
        return tables.pairs(rows)
    match = fits(state.driver, firmware) and not state.on("compat", device)
    return tables.pairs(
        {
            "NPU ID": profile.npu(device),
            "Software Version": state.driver,
            "Firmware Version": firmware,
            "Compatibility": "OK" if match else "NOT OK",
            "Board ID": "0x02",
            "PCB ID": "A",
            "BOM ID": "1",
            "PCIe Bus Info": profile.bus(device),
            "Slot ID": profile.npu(device),
            "Class ID": "NA",
            "PCI Vendor ID": "0x19e5",
            "PCI Device ID": profile.pci_device,
            "Subsystem Vendor ID": "0x0200",
            "Subsystem Device ID": "0x0100",
            "Chip Count": profile.chips_per_npu,
        }
    )


def _health(state: State, device: int, chip: bool) -> str:
    """Answer health; the key differs between card and chip."""
    health = tables.health(state, device)
    bad = health != "OK"
    return tables.pairs(
        {
            **({} if chip else {"NPU ID": state.profile.npu(device)}),
            "Health Status" if chip else "Health": health,
            "Error Code": " 80E01801" if bad else "NA",
            "Error Information": "node type=SOC, sensor type=Temperature, event state=upper"
            if bad
            else "NA",
        }
    )


def _usages(state: State, device: int, chip: bool) -> str:
    """Answer usages."""
    profile = state.profile
    used = tables.hbm_used(state, device) * 100 // profile.hbm
    chips = "" if chip else f"{tables.pair('Chip Count', profile.chips_per_npu)}\n"
    rows = {
        "DDR Capacity(MB)": 0,
        "DDR Usage Rate(%)": 0,
        "DDR Hugepages Total(page)": 0,
        "DDR Hugepages Usage Rate(%)": 0,
        "HBM Capacity(MB)": profile.hbm,
        "HBM Usage Rate(%)": used,
        "Aicore Usage Rate(%)": 0,
        "Aicpu Usage Rate(%)": 0,
        "Ctrlcpu Usage Rate(%)": 3,
        "DDR Bandwidth Usage Rate(%)": 0,
        "HBM Bandwidth Usage Rate(%)": 0,
        "Chip ID": profile.chip_id(device),
    }
    return tables.pair("NPU ID", profile.npu(device)) + chips + tables.pairs(rows)


def _spod(state: State, device: int, _chip: bool) -> str:
    """Answer spod-info: A3 only."""
    if state.profile.generation != "A3":
        raise ToolError("This device does not support querying spod-info.", -8255)
    return tables.pairs(
        {
            "SDID": 16777216 + state.host_index * 4194304 + device,
            "Super Pod Size": 384,
            "Super Pod ID": 0,
            "Server Index": state.host_index,
        }
    )


def _processes(state: State, device: int, _chip: bool) -> str:
    """Answer proc-mem."""
    rows = tables.processes(state, device)
    if not rows:
        npu = state.profile.npu(device)
        return f"\tNo running processes found in NPU {npu}\n"
    return "".join(
        f"\tProcess id:{pid}  Process name:{name:<18}Process memory(MB):{memory}\n"
        for pid, name, memory in rows
    )


def _common(state: State, device: int, _chip: bool) -> str:
    """Answer common."""
    profile = state.profile
    return tables.pairs(
        {
            "NPU ID": profile.npu(device),
            "Chip Count": profile.chips_per_npu,
            "Chip ID": profile.chip_id(device),
            "Memory Usage Rate(%)": 0,
            "HBM Usage Rate(%)": tables.hbm_used(state, device) * 100 // profile.hbm,
            "Aicore Usage Rate(%)": 0,
            "Aicore Freq(MHZ)": 1800,
            "Aicore curFreq(MHZ)": 800,
            "Aicore Count": 20,
            "Temperature(C)": tables.temperature(state, device),
            "NPU Real-time Power(W)": tables.power(state, device),
        }
    )


def _topo(state: State, _device: int, _chip: bool) -> str:
    """Answer topo, which is of the whole host."""
    return tables.topo(state)


QUERIES: dict[str, Callable[[State, int, bool], str]] = {
    "board": _board,
    "health": _health,
    "usages": _usages,
    "topo": _topo,
    "spod-info": _spod,
    "proc-mem": _processes,
    "common": _common,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
