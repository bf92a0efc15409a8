"""Kinds of simulated machines: what their tools print (reference: captured outputs)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

A2_BUSES = ("C1", "C2", "81", "82", "01", "02", "41", "42")
A3_BUSES = (
    *("9D", "9F", "99", "9B", "95", "97", "91", "93"),
    *("8D", "8F", "89", "8B", "85", "87", "81", "83"),
)


@dataclass(frozen=True)
class Layout:
    """Column widths of ``npu-smi info``; ``line`` is the length of every line."""

    line: int
    tool: int
    cells: tuple[int, int]
    process: tuple[int, ...]


NARROW = Layout(line=98, tool=24, cells=(11, 17), process=(13, 24, 23))
WIDE = Layout(line=116, tool=35, cells=(20, 23), process=(13, 18, 21, 23))


@dataclass(frozen=True)
class Profile:
    """One kind of machine. Sizes are MB, as npu-smi shows them."""

    name: str
    generation: Literal["A2", "A3"]
    chip: str
    layout: Layout
    buses: tuple[str, ...]
    chips_per_npu: int
    idle_hbm: int
    driver: str
    pci_device: str
    hbm: int = 65536

    def npu(self, device: int) -> int:
        """Return the NPU id of a physical device id."""
        return device // self.chips_per_npu

    def chip_id(self, device: int) -> int:
        """Return the chip id within its NPU."""
        return device % self.chips_per_npu

    def bus(self, device: int) -> str:
        """Return the PCI address."""
        return f"0000:{self.buses[device % len(self.buses)]}:00.0"


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("a2-98", "A2", "910B3", NARROW, A2_BUSES, 1, 3338, "25.3.rc1", "0xD802"),
        Profile("a3-98", "A3", "Ascend910", NARROW, A3_BUSES, 2, 3440, "25.3.rc1", "0xD803"),
        Profile("wide-26.1", "A2", "910B3", WIDE, A2_BUSES, 1, 3402, "26.1.0", "0xD802"),
    )
}
