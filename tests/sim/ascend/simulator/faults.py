"""The faults that can be switched on and off, each with what it makes the tools say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Scope = Literal["device", "host"]


@dataclass(frozen=True)
class Fault:
    """One kind of fault. ``device`` faults hit one device, or all when none is named."""

    name: str
    scope: Scope
    effect: str


FAULTS: tuple[Fault, ...] = (
    Fault("unhealthy", "device", "npu-smi shows Alarm"),
    Fault("unhealthy-warning", "device", "npu-smi shows Warning"),
    Fault("unhealthy-alarm", "device", "npu-smi shows Alarm"),
    Fault("unhealthy-critical", "device", "npu-smi shows Critical"),
    Fault("occupied", "host", "npu-smi: the device is used, -8020, exit 172"),
    Fault("no-driver", "host", "npu-smi: dcmi does not initialise, -8005, exit 187"),
    Fault("driver-partial", "host", "npu-smi: npu get board type failed, -9005"),
    Fault("no-card", "host", "npu-smi finds no card; the device nodes are gone"),
    Fault("missing-node", "device", "/dev/davinciN is gone"),
    Fault("npu-smi-missing", "host", "npu-smi is not installed"),
    Fault("no-npu-smi-in-bin", "host", "npu-smi is in /usr/local/sbin instead of /usr/local/bin"),
    Fault("hccn-tool-missing", "host", "hccn_tool and its link are gone"),
    Fault("process", "device", "a foreign process holds the chip: row and 30780 MB of HBM"),
    Fault("process-nameless", "device", "as process, with an empty name (seen from a container)"),
    Fault("zombie", "device", "30 GiB of HBM are used, and no process row says by whom"),
    Fault("hbm-in-use", "device", "8 GiB of HBM are used, and no process row says by whom"),
    Fault("compat", "device", "npu-smi info -t board: Compatibility is not OK"),
    Fault("firmware-old", "host", "firmware outside of the driver's compatible_version_fw"),
    Fault("driver-old", "host", "driver 24.1.rc2.2: too old for current CANN"),
    Fault("ip-unset", "device", "no device address: hccn_tool exit 13, no line in hccn.conf"),
    Fault("ip-wrong", "device", "the device's address is another one than hccn.conf says"),
    Fault("device-ip-double", "device", "the address of the next device, or of --peer, once more"),
    Fault("netmask-wrong", "device", "netmask 255.255.255.0 instead of 255.255.0.0"),
    Fault("hccn-conf-empty", "host", "/etc/hccn.conf is empty, the devices have their addresses"),
    Fault("hccn-conf-missing", "host", "/etc/hccn.conf is not there"),
    Fault("link-down", "device", "link status: DOWN; pings are lost"),
    Fault("vnic-down", "device", "vnic link status: DOWN (A3)"),
    Fault("net-health-init", "device", "net health status: Init"),
    Fault("net-health-unreachable", "device", "net health status: Unreachable"),
    Fault("gateway-unset", "device", "no gateway: hccn_tool exit 2"),
    Fault("netdetect-unset", "device", "netdetect address 0.0.0.0"),
    Fault("tls-on", "device", "tls switch[1]"),
    Fault("no-cert", "device", "no certificate: hccn_tool -tls -g exit 14"),
    Fault("unreachable", "device", "pings to --peer (device or lab host; default all) are lost"),
    Fault("lossy", "device", "one of three pings to --peer (as above) is lost"),
    Fault("busy", "host", "hccn_tool is busy, exit 11"),
    Fault("speed-unknown", "device", "Speed: Unknown!"),
    Fault("optical-absent", "device", "no optical module"),
    Fault("link-flap", "device", "the link went up 37 times"),
    Fault("lldp-empty", "device", "the switch sends no LLDP"),
)
BY_NAME: dict[str, Fault] = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True)
class Active:
    """A fault that is on."""

    name: str
    device: int | None = None
    peer: str | None = None

    def dump(self) -> dict[str, str | int | None]:
        """Return plain data."""
        return asdict(self)


class FaultUsageError(ValueError):
    """The fault does not exist, or not for a device or peer."""


def checked(name: str, device: int | None, peer: str | None, devices: int) -> Active:
    """Return the fault to switch on. Raises FaultUsageError with what is wrong."""
    fault = BY_NAME.get(name)
    if fault is None:
        raise FaultUsageError(f"no fault {name!r}; `fault list` names them")
    if device is not None and fault.scope == "host":
        raise FaultUsageError(f"{name} hits the whole host; leave --device out")
    if device is not None and not 0 <= device < devices:
        raise FaultUsageError(f"no device {device}: this host has 0 to {devices - 1}")
    if peer is not None and name not in ("unreachable", "lossy", "device-ip-double"):
        raise FaultUsageError(f"{name} takes no --peer")
    return Active(name, device, peer)
