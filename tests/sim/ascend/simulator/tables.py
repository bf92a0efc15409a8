"""What ``npu-smi`` prints, character by character as captured from released drivers."""

from __future__ import annotations

from collections.abc import Mapping

from .state import State

HEALTH = {
    "unhealthy": "Alarm",
    "unhealthy-critical": "Critical",
    "unhealthy-alarm": "Alarm",
    "unhealthy-warning": "Warning",
}
PROCESS_MB = 30780
ZOMBIE_MB = 30 * 1024
LEFTOVER_MB = 8 * 1024
LEGEND = """\

Legend:

  X    = Self
  SYS  = Path traversing PCIe and NUMA nodes. Nodes are connected through SMP, such as QPI, UPI.
  PHB  = Path traversing PCIe and the PCIe host bridge of a CPU.
  PIX  = Path traversing a single PCIe switch
  PXB  = Path traversing multipul PCIe switches
  HCCS = Connection traversing HCCS.
  NA   = Unknown relationship.
"""


def pair(key: str, value: object) -> str:
    """Return one line of a query: TAB, key padded to 30, value."""
    return f"\t{key:<30} : {value}\n"


def pairs(rows: Mapping[str, object]) -> str:
    """Return the lines of a query."""
    return "".join(pair(key, value) for key, value in rows.items())


def health(state: State, device: int) -> str:
    """Return the Health column."""
    return next((text for name, text in HEALTH.items() if state.on(name, device)), "OK")


def power(state: State, device: int) -> str:
    """Return the power in watts; the second die of a card shows none."""
    if state.profile.chip_id(device):
        return "-"
    return f"{(174.3 if state.profile.generation == 'A3' else 98.1) + device * 0.7:.1f}"


def temperature(state: State, device: int) -> int:
    """Return degrees Celsius; a made-up number that is the same on each call."""
    return (36 if state.profile.generation == "A3" else 49) + device % 5


def processes(state: State, device: int) -> list[tuple[int, str, int]]:
    """Return the rows of a chip: process id, name, MB. Names are cut to 15 by the kernel."""
    rows = []
    if state.on("process", device):
        rows.append((139667 + device, "python", PROCESS_MB))
    if state.on("process-nameless", device):
        rows.append((485946 + device, "", PROCESS_MB))
    return rows


def hbm_used(state: State, device: int) -> int:
    """Return the MB of HBM that are in use, idle use included."""
    used = state.profile.idle_hbm + device % 7
    used += sum(memory for _, _, memory in processes(state, device))
    used += ZOMBIE_MB if state.on("zombie", device) else 0
    return used + (LEFTOVER_MB if state.on("hbm-in-use", device) else 0)


def info(state: State, tool: str) -> str:
    """Return the big table; ``tool`` is npu-smi's own version, the driver's stands beside it."""
    layout = state.profile.layout
    thin = f"+{'-' * 27}+{'-' * 15}+{'-' * (layout.line - 46)}+"
    thick = thin.replace("-", "=")
    flat = f"+{'-' * (layout.line - 2)}+"
    version = layout.line - layout.tool - 22
    titled = f"| npu-smi {tool:<{layout.tool}} Version: {state.driver:<{version}} |"
    lines = [flat, titled, thin, *_heads(state), thick]
    for device in range(state.devices):
        lines += _card(state, device)
        last = state.profile.chip_id(device) == state.profile.chips_per_npu - 1
        lines.append(thick if last or device == state.devices - 1 else flat)
    lines += [thin, _process_head(state), thick]
    for npu in range(-(-state.devices // state.profile.chips_per_npu)):
        lines += [*_process_rows(state, npu), thick]
    return "".join(f"{line}\n" for line in lines)


def _row(state: State, cells: tuple[str, str, str, str, str]) -> str:
    """Return one row of the card table."""
    one, two = state.profile.layout.cells
    last = state.profile.layout.line - 49 - one - two
    name, middle, first, second, third = cells
    return f"| {name:<26}| {middle:<13} | {first:<{one}} {second:<{two}} {third:<{last}}|"


def _heads(state: State) -> list[str]:
    """Return the two head rows."""
    chip = "Chip  Phy-ID" if state.profile.generation == "A3" else "Chip"
    return [
        _row(state, ("NPU   Name", "Health", "Power(W)", "Temp(C)", "Hugepages-Usage(page)")),
        _row(state, (chip, "Bus-Id", "AICore(%)", "Memory-Usage(MB)", "HBM-Usage(MB)")),
    ]


def _card(state: State, device: int) -> list[str]:
    """Return the two rows of a chip."""
    profile = state.profile
    chip = str(profile.chip_id(device))
    if profile.generation == "A3":
        chip = f"{chip:<5} {device}"
    return [
        _row(
            state,
            (
                f"{profile.npu(device):<5} {profile.chip}",
                health(state, device),
                power(state, device),
                str(temperature(state, device)),
                "0    / 0",
            ),
        ),
        _row(
            state,
            (
                chip,
                profile.bus(device),
                "0",
                "0    / 0",
                f"{hbm_used(state, device):<5}/ {profile.hbm}",
            ),
        ),
    ]


def _process_row(state: State, first: str, cells: tuple[str, ...]) -> str:
    """Return one row of the process table."""
    widths = state.profile.layout.process
    shown = [f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=False)]
    return f"| {first:<26}| {' | '.join(shown)} |"


def _process_head(state: State) -> str:
    """Return the process table's head; wide tables have one more column."""
    names = ("Process id", "Process name", "Process memory(MB)", "Process id in container")
    return _process_row(state, "NPU     Chip", names)


def _process_rows(state: State, npu: int) -> list[str]:
    """Return the rows of an NPU's processes: keyed by NPU and chip, not by physical id."""
    profile = state.profile
    first = npu * profile.chips_per_npu
    rows = [
        _process_row(
            state,
            f"{npu:<7} {profile.chip_id(device)}",
            (str(pid), name, str(memory), "NA"),
        )
        for device in range(first, min(first + profile.chips_per_npu, state.devices))
        for pid, name, memory in processes(state, device)
    ]
    none = f"No running processes found in NPU {npu}"
    return rows or [f"| {none:<{profile.layout.line - 4}} |"]


def listing(state: State) -> str:
    """Return ``info -l``."""
    profile = state.profile
    npus = -(-state.devices // profile.chips_per_npu)
    text = pair("Total Count", npus)
    for npu in range(npus):
        text += f"\n{pair('NPU ID', npu)}{pair('Chip Count', profile.chips_per_npu)}"
    return text


def mapping(state: State) -> str:
    """Return ``info -m``: a row per chip, and one for each card's Mcu."""
    profile = state.profile
    a3 = profile.generation == "A3"
    heads = ["NPU ID", "Chip ID", "Chip Logic ID", *(["Chip Phy-ID"] if a3 else []), "Chip Name"]
    rows = [heads]
    for device in range(state.devices):
        npu, chip = profile.npu(device), profile.chip_id(device)
        name = profile.chip if a3 else f"Ascend {profile.chip}"
        ids = [str(device)] * (2 if a3 else 1)
        rows.append([str(npu), str(chip), *ids, name])
        if chip == profile.chips_per_npu - 1:
            rows.append([str(npu), str(chip + 1), *["-"] * len(ids), "Mcu"])
    return "".join("\t" + " ".join(f"{cell:<30}" for cell in row).rstrip() + "\n" for row in rows)


def topo(state: State) -> str:
    """Return ``info -t topo``: how the chips are connected, and their CPUs."""
    profile = state.profile
    word = "Phy-ID" if profile.generation == "A3" else "NPU"
    names = [f"{word}{device}" for device in range(state.devices)]
    lines = ["".join(f"{cell:<11}" for cell in ("", *names, "CPU Affinity")).rstrip()]
    for device, name in enumerate(names):
        links = ["X" if other == device else "HCCS" for other in range(state.devices)]
        first = device * 24
        cells = (name, *links, f"{first}-{first + 23}")
        lines.append("".join(f"{cell:<11}" for cell in cells).rstrip())
    return "".join(f"\t{line}\n" for line in lines) + LEGEND
