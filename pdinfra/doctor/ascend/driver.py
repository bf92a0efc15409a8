"""Driver, firmware, and whether they fit each other and the image."""

from __future__ import annotations

from collections.abc import Iterator

from pdinfra.doctor.ascend.host import AscendHost, all_or
from pdinfra.doctor.rules import Rule
from pdinfra.model.ascend import DriverState
from pdinfra.model.checks import Check
from pdinfra.versions.ascend_drivers import wanted_driver
from pdinfra.versions.order import order, within

DRIVER = Rule(
    id="npu-driver",
    what="The Ascend driver is installed and loaded: `npu-smi info` answers.",
    expected="npu-smi lists the cards",
    fix="install the driver and firmware packages, then reboot if they ask for it",
    source="vllm-ascend issue 2698 (-8005); driver source, npu_smi.c",
)
HELD = Rule(
    id="npu-held",
    what="No other container's namespace holds a card (npu-smi: -8020).",
    expected="npu-smi lists the cards",
    fix=(
        "stop the container that holds the card: `docker ps -q | xargs docker inspect --format "
        "'{{.Name}} {{.HostConfig.Devices}}'` shows which one was given it, `fuser -v "
        "/dev/davinci*` who has it open"
    ),
    source="cann-container-image issue 46; driver source, uda_access.c",
)
NODE = Rule(
    id="npu-node",
    what="The device nodes that the containers are given exist, /dev/davinciN and shared ones.",
    expected="every planned /dev node",
    fix="reload the driver or reboot; /var/log/ascend_seclog tells why a node is missing",
    source="vllm-ascend issue 2698",
)
FIRMWARE = Rule(
    id="npu-firmware",
    what=(
        "Driver and firmware fit each other: the range in the driver's version.info, and what "
        "`npu-smi info -t board` says (Compatibility)."
    ),
    expected="Compatibility : OK",
    fix="install the driver and firmware of one HDK release",
    source="driver version.info; npu-smi source; vllm-ascend issues 5468, 3190, 2244",
)
MINIMUM = Rule(
    id="npu-driver-version",
    what="The driver is as new as the image needs (fail) and recommends (warn).",
    expected="a driver that is new enough for the image",
    fix="upgrade the driver (firmware first, then driver)",
    source="vllm-ascend issue 2406; pdinfra/versions/ascend_drivers.yml",
)

RULES = (DRIVER, HELD, NODE, FIRMWARE, MINIMUM)

FIXES: dict[DriverState, str] = {
    "unloaded": (
        "`lsmod | grep drv_pcie_host` shows whether the driver is loaded: reboot, or install it "
        "again; a container that has claimed the cards gives the same error"
    ),
    "failed": "`npu-smi info` on the host shows it; reboot, or install the driver again",
}


def checks(host: AscendHost) -> Iterator[Check]:
    """Yield the driver's checks. What needs a working driver is left out without one."""
    ascend = host.ascend
    if ascend.state == "held":
        yield HELD.bad(host.name, ascend.detail)
        return
    if ascend.state == "absent":
        yield DRIVER.bad(host.name, f"no npu-smi and {_version(ascend.driver)}")
        return
    if ascend.state != "ready":
        yield DRIVER.bad(host.name, ascend.detail, fix=FIXES[ascend.state])
        return
    yield DRIVER.ok(host.name, f"{_version(ascend.driver)}, {len(ascend.npus)} devices")
    yield HELD.ok(host.name, "no card is held")
    yield from all_or(NODE, host.name, _nodes(host), f"{len(host.nodes())} nodes")
    yield from all_or(FIRMWARE, host.name, _firmware(host), _pair(host))
    yield from _minimum(host)


def _version(driver: str) -> str:
    """Return the driver in words."""
    return f"driver {driver}" if driver else "no driver in /usr/local/Ascend"


def _nodes(host: AscendHost) -> Iterator[Check]:
    """Yield the nodes that are planned and not there; of devices that npu-smi has."""
    unknown = {f"/dev/davinci{d}" for d in host.devices if host.ascend.npu(d) is None}
    for node in host.nodes():
        if node not in host.ascend.nodes and node not in unknown:
            yield NODE.bad(host.name, f"no {node}", expected=node)


def _firmware(host: AscendHost) -> Iterator[Check]:
    """Yield a firmware outside of the driver's ranges; else the planned cards that do not fit."""
    ranges, firmware = host.ascend.firmware_ranges, host.ascend.firmware
    if ranges and firmware and not any(within(firmware, low, high) for low, high in ranges):
        allowed = ", ".join(f"{low} to {high}" for low, high in ranges)
        expected = f"firmware {allowed}, for this driver"
        yield FIRMWARE.bad(host.name, _pair(host), expected=expected)
        return
    cards = {npu.card for d in host.devices if (npu := host.ascend.npu(d)) is not None}
    for card, verdict in sorted(host.ascend.compatibility.items()):
        if card in cards and verdict != "OK":
            yield FIRMWARE.bad(host.name, f"NPU {card}: Compatibility : {verdict}; {_pair(host)}")


def _minimum(host: AscendHost) -> Iterator[Check]:
    """Yield whether the driver is new enough for each image with a documented minimum."""
    driver = host.ascend.driver
    if not driver:
        return
    for image in dict.fromkeys(c.spec.image for c in host.engines):
        row = wanted_driver(image)
        if row is None:
            continue
        found = f"driver {driver}"
        if row.minimum and order(driver) < order(row.minimum):
            expected = f"at least {row.minimum} for {image}"
            yield MINIMUM.bad(host.name, found, expected=expected)
        elif row.recommended and order(driver) < order(row.recommended):
            expected = f"{row.recommended} or later, recommended for {image}"
            yield MINIMUM.bad(host.name, found, expected=expected, severity="warn")
        else:
            expected = f"at least {row.recommended or row.minimum} for {image}"
            yield MINIMUM.ok(host.name, found, expected=expected)


def _pair(host: AscendHost) -> str:
    """Return driver and firmware in words."""
    ascend = host.ascend
    return f"driver {ascend.driver or 'unknown'}, firmware {ascend.firmware or 'unknown'}"
