"""Facts about the Ascend side of one host: driver, cards, their network, who uses them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pdinfra.model.fact import Fact

DriverState = Literal["ready", "absent", "unloaded", "held", "failed"]
Generation = Literal["a2", "a3"]

HCCL_PORTS = range(60000, 60032)
"""Ports that HCCL opens on the host by itself (HCCL docs: keep them for it)."""
NPU_PORT = 16666
"""HCCL's port on the cards' own network (HCCL docs). Each further instance of a machine gets
``NPU_PORTS`` ports of its own behind it (vllm-ascend issue 4725: two engines wanted the one)."""
NPU_PORTS = 16
LAST_NPU_PORT = NPU_PORT + 16 * NPU_PORTS - 1
"""No machine has more than 16 devices, and each instance has at least one."""


class NpuProcess(Fact):
    """A process on a device. ``memory`` in MB (0: not told); ``container`` is Docker's full id.

    ``seen`` is False for a process that npu-smi lists and the host's /proc does not have.
    """

    pid: int
    name: str
    memory: int = 0
    container: str | None = None
    seen: bool = True

    def __str__(self) -> str:
        """Return the process as a message names it."""
        return f"{self.name or 'a process'} (pid {self.pid})"


class Npu(Fact):
    """One device (die) as npu-smi shows it. HBM in MB; ``card`` and ``chip`` are npu-smi's ids."""

    device: int
    card: int
    chip: int
    name: str
    health: str
    hbm_used: int
    hbm_total: int
    processes: tuple[NpuProcess, ...] = ()


class NpuNetwork(Fact):
    """One device's network as hccn_tool shows it; None is "not set" or "not told".

    ``error`` says why the tool gave no answer. On A3 the address is the virtual NIC's, whose own
    link is ``vnic``; ``link`` is the RoCE port's.
    """

    error: str = ""
    address: str | None = None
    netmask: str | None = None
    link: str | None = None
    vnic: str | None = None
    net_health: str | None = None
    detect: str | None = None
    gateway: str | None = None
    tls: bool | None = None


class HccnConf(Fact):
    """/etc/hccn.conf: addresses and netmasks by physical device."""

    addresses: dict[int, str] = Field(default_factory=dict)
    netmasks: dict[int, str] = Field(default_factory=dict)


class DeviceClaim(Fact):
    """A running container, of whatever service, and the devices that it was given."""

    container: str
    container_id: str
    service: str
    devices: tuple[int, ...]
    privileged: bool


class AscendFacts(Fact):
    """The Ascend side of one host now.

    ``compatibility`` and ``error_codes`` go by card, ``networks`` and ``openers`` by device; only
    the devices of the plan were asked for the latter two. ``openers`` have the device's node open.
    """

    state: DriverState
    detail: str = ""
    npu_smi: tuple[str, ...] = ()
    hccn_tool: str | None = None
    generation: Generation = "a2"
    driver: str = ""
    firmware: str = ""
    firmware_ranges: tuple[tuple[str, str], ...] = ()
    npus: tuple[Npu, ...] = ()
    compatibility: dict[int, str] = Field(default_factory=dict)
    error_codes: dict[int, str] = Field(default_factory=dict)
    networks: dict[int, NpuNetwork] = Field(default_factory=dict)
    conf: HccnConf | None = None
    nodes: tuple[str, ...] = ()
    mounts: dict[str, Literal["file", "directory", "absent"]] = Field(default_factory=dict)
    openers: dict[int, tuple[NpuProcess, ...]] = Field(default_factory=dict)
    claims: tuple[DeviceClaim, ...] = ()

    def npu(self, device: int) -> Npu | None:
        """Return one device by its physical id."""
        return next((npu for npu in self.npus if npu.device == device), None)

    def address(self, device: int) -> str | None:
        """Return a device's address by hccn_tool, else by /etc/hccn.conf; None: neither has one."""
        network = self.networks.get(device)
        if network is not None and network.address:
            return network.address
        return self.conf.addresses.get(device) if self.conf else None
