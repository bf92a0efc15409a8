"""This host's own address and cards, for verbs that work without an inventory."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pdinfra.driver.look import FAILED, DriverError
from pdinfra.model.addresses import is_loopback
from pdinfra.ranktable.topology import Card
from pdinfra.reading import hccn, npu_smi
from plugins.module_utils import pd_ascend

HCCN_CONF = Path("/etc/hccn.conf")
ELSEWHERE = ("192.0.2.1", 9)
"""An address of documents (RFC 5737): asking for the way to it sends nothing."""


@dataclass(frozen=True)
class Seen:
    """Addresses by device, what a person should know of them, and why others have none."""

    addresses: dict[int, str]
    notes: list[str]
    missing: list[str] = field(default_factory=list)


def own_address() -> str:
    """Return this host's address: by its name, or by the way out where its name is loopback.

    Raises DriverError where neither tells one. Debian's /etc/hosts gives the name 127.0.1.1.
    """
    try:
        named = socket.gethostbyname(socket.gethostname())
        if not is_loopback(named):
            return named
    except OSError:
        pass
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect(ELSEWHERE)
            return str(way.getsockname()[0])
    except OSError as error:
        line = f"this host: address: its name and its routes tell none ({error})"
        raise DriverError([f"{line}. Fix: name it with --ip"], FAILED) from None


def addresses(devices: Sequence[int], conf: Path = HCCN_CONF, *, virtual: bool = False) -> Seen:
    """Ask hccn_tool for devices' addresses, one after the other; hccn.conf where it tells none.

    ``virtual``: of the virtual NIC, as vllm-ascend's tables have them on A3; hccn.conf does not
    know these. A device without an address is left out, and told in ``missing``.
    """
    tool = _hccn_tool()
    written = _written(conf) if not virtual else {}
    found: dict[int, str] = {}
    notes: list[str] = []
    missing: list[str] = []
    for device in devices:
        said, why = tool(device, "vnic" if virtual else "ip")
        in_file = written.get(device)
        if said is not None:
            found[device] = said
            if in_file not in (None, said):
                both = f"hccn_tool says {said}, {conf} says {in_file}"
                notes.append(f"device {device}: {both}: the table has hccn_tool's")
        elif in_file is not None:
            found[device] = in_file
            notes.append(f"device {device}: {why}: its address is from {conf}")
        else:
            missing.append(f"device {device}: {why}, and {conf} has no address_{device}")
    return Seen(found, notes, missing)


def cards(
    devices: Sequence[int], conf: Path = HCCN_CONF, *, virtual: bool = False, pods: bool = False
) -> tuple[dict[int, Card], list[str]]:
    """Return this host's cards by device, and notes. ``pods``: with SDID and super pod (A3).

    Raises DriverError, with every reason, where a card's address or SDID is not to be had.
    """
    seen = addresses(devices, conf, virtual=virtual)
    fix = "set it: hccn_tool -i N -ip -s address A netmask M"
    lines = [f"{line}. Fix: {fix}" for line in seen.missing]
    ids = {device: _super_pod(device) if pods else None for device in devices}
    if pods:
        lines += [
            f"device {device}: npu-smi tells no SDID. Fix: a format without super pods"
            for device, each in ids.items()
            if each is None
        ]
    if lines:
        raise DriverError(lines, FAILED)
    made = {}
    for device in devices:
        sdid, pod = ids[device] or (None, None)
        made[device] = Card(device, seen.addresses[device], sdid, pod)
    return made, seen.notes


def _hccn_tool() -> Callable[[int, str], tuple[str | None, str]]:
    """Return what asks for one device's address: the address or None, and why there is none."""
    path = _program("hccn_tool", pd_ascend.HCCN_TOOL)
    if path is None:
        return lambda device, question: (None, "this host has no hccn_tool")
    tool = pd_ascend.HccnTool(path)

    def ask(device: int, question: str) -> tuple[str | None, str]:
        seen = hccn.network({question: tool.ask(device, f"-{question}", "-g")})
        return seen.address, seen.error or "hccn_tool: no address was set"

    return ask


def _program(name: str, places: tuple[str, ...]) -> str | None:
    """Return where a vendor's tool is: on the PATH, else at one of its usual places."""
    return shutil.which(name) or next(iter(pd_ascend.places(places)), None)


def _written(conf: Path) -> dict[int, str]:
    """Return the addresses of hccn.conf; none where it cannot be read."""
    try:
        return hccn.conf(conf.read_text(encoding="utf-8")).addresses
    except (OSError, UnicodeDecodeError):
        return {}


def _super_pod(device: int) -> tuple[str, str] | None:
    """Ask npu-smi for one device of an A3, which has two chips on a card."""
    path = _program("npu-smi", pd_ascend.NPU_SMI)
    if path is None:
        return None
    card, chip = divmod(device, 2)
    words = ("info", "-t", "spod-info", "-i", str(card), "-c", str(chip))
    return npu_smi.super_pod(pd_ascend.run(path, *words)["stdout"])
