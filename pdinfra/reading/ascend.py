"""Everything the facts module brought of a host's Ascend side → AscendFacts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pdinfra.model.ascend import AscendFacts, DeviceClaim, DriverState, Npu, NpuProcess
from pdinfra.model.plan import LABEL_SERVICE
from pdinfra.reading import hccn, npu_smi

DRIVER = "/usr/local/Ascend/driver/version.info"
FIRMWARE = "/usr/local/Ascend/firmware/version.info"
HCCN_CONF = "/etc/hccn.conf"

PACKAGE = re.compile(r"^package_version=(\S+)", re.M)
CHIP_VERSION = re.compile(r"^Version=(\S+)", re.M)
FIRMWARE_RANGES = re.compile(r"^compatible_version_fw=(.*)$", re.M)
RANGE = re.compile(r"\[([^,\]]+),([^,\]]+)\]")
NODE = re.compile(r"/dev/davinci(\d+)")
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")

Raw = Mapping[str, Any]


def ascend_facts(raw: Raw) -> AscendFacts:
    """Read the raw observations of one Ascend host."""
    files: Mapping[str, Raw | None] = raw["files"]
    asked: Raw = raw["npu_smi"]
    state, detail = npu_smi.state(asked.get("info"))
    table = npu_smi.table(asked["info"]["stdout"] if state == "ready" else "")
    if state == "ready":
        state, detail = _whole(table.npus, asked.get("list"))
    conf = files.get(HCCN_CONF)
    return AscendFacts(
        state=state,
        detail=detail,
        npu_smi=tuple(raw["places"]["npu-smi"]),
        hccn_tool=next(iter(raw["places"]["hccn_tool"]), None),
        generation="a3" if table.a3 else "a2",
        driver=_version(files.get(DRIVER), PACKAGE, CHIP_VERSION),
        firmware=_version(files.get(FIRMWARE), CHIP_VERSION),
        firmware_ranges=_firmware_ranges(files.get(DRIVER)),
        npus=tuple(_with_owners(npu, raw["processes"]) for npu in table.npus),
        compatibility=_by_card(asked, "board", "Compatibility"),
        error_codes=_by_card(asked, "health", "Error Code"),
        networks={int(device): hccn.network(said) for device, said in raw["network"].items()},
        conf=None if conf is None else hccn.conf(conf["text"]),
        nodes=tuple(raw["nodes"]),
        mounts=raw["mounts"],
        openers=_openers(raw["openers"]),
        claims=tuple(_claim(claim) for claim in raw["claims"]),
    )


def _whole(npus: tuple[Npu, ...], listed: Raw | None) -> tuple[DriverState, str]:
    """Doubt a table of which fewer devices were read than `npu-smi info -l` counts."""
    expected = npu_smi.count(listed["stdout"]) if listed else 0
    if npus and len(npus) >= expected:
        return "ready", ""
    return "failed", f"npu-smi shows {len(npus)} devices and counts {expected}"


def _version(file: Raw | None, *patterns: re.Pattern[str]) -> str:
    """Return the first version that a version.info has by these keys, else nothing."""
    text = file["text"] if file else ""
    return next((found.group(1) for pattern in patterns if (found := pattern.search(text))), "")


def _firmware_ranges(file: Raw | None) -> tuple[tuple[str, str], ...]:
    """Return the firmware versions, from and to, that the driver's version.info allows."""
    line = FIRMWARE_RANGES.search(file["text"]) if file else None
    return tuple(RANGE.findall(line.group(1))) if line else ()


def _by_card(asked: Raw, topic: str, name: str) -> dict[int, str]:
    """Return one field of `npu-smi info -t TOPIC -i CARD`, by card."""
    found = {}
    for card, topics in asked.get("cards", {}).items():
        value = npu_smi.field(topics[topic]["stdout"], name) if topic in topics else None
        if value and value != "NA":
            found[int(card)] = value
    return found


def _with_owners(npu: Npu, processes: Mapping[str, Raw]) -> Npu:
    """Add to each process what the host's /proc tells about it."""
    owned = [
        _process(process.pid, processes.get(str(process.pid), {}), process)
        for process in npu.processes
    ]
    return npu.model_copy(update={"processes": tuple(owned)})


def _process(pid: int, raw: Raw, listed: NpuProcess | None = None) -> NpuProcess:
    """Make a process of its /proc entries and of npu-smi's row; the row's name may be empty."""
    inside = CONTAINER_ID.search(raw.get("cgroup") or "")
    return NpuProcess(
        pid=pid,
        name=(listed.name if listed else "") or raw.get("comm") or "",
        memory=listed.memory if listed else 0,
        container=inside.group() if inside else None,
        seen=raw.get("comm") is not None,
    )


def _openers(raw: Iterable[Raw]) -> dict[int, tuple[NpuProcess, ...]]:
    """Return the processes that have a device's node open, by device."""
    found: dict[int, tuple[NpuProcess, ...]] = {}
    for row in raw:
        mine = found.get(row["device"], ())
        found[row["device"]] = (*mine, _process(row["pid"], row))
    return found


def _claim(raw: Raw) -> DeviceClaim:
    """Read what one container was given, by Docker itself or by Ascend's Docker runtime."""
    nodes = [NODE.fullmatch(path) for path in raw["devices"]]
    given = {int(node.group(1)) for node in nodes if node}
    return DeviceClaim(
        container=raw["name"].lstrip("/"),
        container_id=raw["id"],
        service=raw["labels"].get(LABEL_SERVICE, ""),
        devices=tuple(sorted(given | _visible(raw["visible"]))),
        privileged=raw["privileged"],
    )


def _visible(text: str) -> set[int]:
    """Read ASCEND_VISIBLE_DEVICES: ``0,2``, ``0-3``, a mix, or a word such as ``void``."""
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if low.isdigit() and (high or low).isdigit():
            found.update(range(int(low), int(high or low) + 1))
    return found
