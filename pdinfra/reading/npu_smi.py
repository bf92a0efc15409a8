"""What npu-smi prints → typed data.

Reads the table of 23.0 to 25.x on A2 and A3 (98 columns), the wide one of 26.1 and that of the
opened source (99): columns are found by ``|`` and by what is in them, never by position.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pdinfra.model.ascend import DriverState, Npu, NpuProcess

CARD = re.compile(r"(\d+)\s+(\S.*)")
CHIP = re.compile(r"(\d+)(?:\s+(\d+))?")
BUS = re.compile(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\w+")
# No blank before the slash once the number has five digits: "41697/ 65536".
USED = re.compile(r"(\d+)\s*/\s*(\d+)")
PROCESS = re.compile(r"(\d+)\s+(\d+)")
VERSION = re.compile(r"Version:\s*(\S+)")
FIELD = re.compile(r"^\s*(\S[^:\n]*?)\s*:\s*(.*?)\s*$", re.M)
SDID = re.compile(r"\bSDID\s*:\s*(\d+)")
POD = re.compile(r"\bSuper Pod ID\s*:\s*(\d+)")
NO_CARD = "There is no NPU card"
FAILURE = re.compile(r"ret is (-\d+)")

STATES: Mapping[str, DriverState] = {"-8005": "unloaded", "-8020": "held"}
"""DCMI's codes in npu-smi's last words (its exit codes 187 and 172 are their low bytes)."""


@dataclass(frozen=True)
class Table:
    """The output of `npu-smi info`."""

    version: str
    a3: bool
    npus: tuple[Npu, ...]


def table(text: str) -> Table:
    """Read `npu-smi info`. What it does not understand, it leaves out."""
    rows = [_cells(line) for line in text.splitlines() if line.lstrip().startswith("|")]
    processes = _processes(rows)
    npus = []
    card: tuple[int, str, str] | None = None
    for row in rows:
        if len(row) != 3:
            continue
        first = CARD.fullmatch(row[0])
        chip = CHIP.fullmatch(row[0])
        if chip and BUS.fullmatch(row[1]) and card is not None:
            npus.append(_npu(card, chip, row[2], processes))
            card = None
        elif first and not BUS.fullmatch(row[1]):
            card = (int(first.group(1)), first.group(2), row[1])
    version = VERSION.search(text)
    return Table(version.group(1) if version else "", "Phy-ID" in text, tuple(npus))


def state(answer: Mapping[str, Any] | None) -> tuple[DriverState, str]:
    """Return whether the driver works, from `npu-smi info`, and npu-smi's own words if not."""
    if answer is None:
        return "absent", ""
    words = " ".join(f"{answer['stdout']}\n{answer['stderr']}".split())
    failure = FAILURE.search(words)
    if failure:
        return STATES.get(failure.group(1), "failed"), words
    if answer["rc"] != 0 or NO_CARD in words:
        return "failed", words or f"npu-smi ended with {answer['rc']}"
    return "ready", ""


def count(text: str) -> int:
    """Return how many devices `npu-smi info -l` counts (its Mcu rows are not among them)."""
    return sum(int(value) for name, value in FIELD.findall(text) if name == "Chip Count")


def field(text: str, *names: str) -> str | None:
    """Return the first of these fields of a ``name : value`` listing."""
    listed = dict(reversed(FIELD.findall(text)))
    return next((listed[name] for name in names if name in listed), None)


def _cells(line: str) -> list[str]:
    """Return a table row's cells."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _npu(
    card: tuple[int, str, str],
    chip: re.Match[str],
    numbers: str,
    processes: Mapping[tuple[int, int], tuple[NpuProcess, ...]],
) -> Npu:
    """Make one device of its two rows: an A3's second one has the physical id."""
    number, name, health = card
    physical = chip.group(2)
    used = USED.findall(numbers)
    # Memory-Usage comes first and is always 0 / 0 here; HBM-Usage is the last.
    hbm = used[-1] if used else ("0", "0")
    return Npu(
        device=number if physical is None else int(physical),
        card=number,
        chip=int(chip.group(1)),
        name=name,
        health=health,
        hbm_used=int(hbm[0]),
        hbm_total=int(hbm[1]),
        processes=processes.get((number, int(chip.group(1))), ()),
    )


def _processes(rows: list[list[str]]) -> dict[tuple[int, int], tuple[NpuProcess, ...]]:
    """Return the process rows by card and chip; 26.1 has a fifth column, which is not used."""
    found: dict[tuple[int, int], tuple[NpuProcess, ...]] = {}
    for row in rows:
        where = PROCESS.fullmatch(row[0])
        if len(row) < 4 or where is None or not row[1].isdigit():
            continue
        key = (int(where.group(1)), int(where.group(2)))
        memory = int(row[3]) if row[3].isdigit() else 0
        process = NpuProcess(pid=int(row[1]), name=row[2], memory=memory)
        found[key] = (*found.get(key, ()), process)
    return found


def super_pod(text: str) -> tuple[str, str] | None:
    """Return SDID and super pod's id as `npu-smi info -t spod-info` prints them (A3); else None."""
    device, pod = SDID.search(text), POD.search(text)
    return (device[1], pod[1]) if device and pod else None
