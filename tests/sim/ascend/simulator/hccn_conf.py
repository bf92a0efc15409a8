"""/etc/hccn.conf and the addresses of the devices' own network ports."""

from __future__ import annotations

from .host import DRIVER, HCCN_CONF, Host
from .state import Nic, State
from .versions import release

NETMASK = "255.255.0.0"


def address(host_index: int, device: int) -> str:
    """Return a device's address in the lab: the third number is the host's index."""
    return f"10.20.{host_index}.{device + 1}"


def vnic_address(host_index: int, device: int) -> str:
    """Return the address of an A3 device's virtual port."""
    return f"192.168.{host_index}.{199 + device}"


def administrator(state: State) -> None:
    """Give every device its address, as an administrator does once after the driver is in."""
    for device in range(state.devices):
        state.nics.setdefault(
            device,
            Nic(
                address=address(state.host_index, device),
                netmask=NETMASK,
                gateway="10.20.255.254",
                netdetect="10.20.255.254",
            ),
        )


def configured(state: State, device: int) -> Nic:
    """Return what hccn.conf holds for a device, with the faults that reach into it."""
    nic = Nic(**vars(state.nic(device)))
    if state.on("ip-unset", device):
        nic.address = nic.netmask = ""
    if nic.address and state.on("device-ip-double", device):
        peer = next(iter(state.peers("device-ip-double", device)), None)
        nic.address = peer or address(state.host_index, (device + 1) % state.devices)
    if nic.netmask and state.on("netmask-wrong", device):
        nic.netmask = "255.255.255.0"
    if state.on("gateway-unset", device):
        nic.gateway = ""
    if state.on("netdetect-unset", device):
        nic.netdetect = ""
    if state.on("tls-on", device):
        nic.tls = 1
    return nic


def in_force(state: State, device: int) -> Nic:
    """Return what the device itself says: as configured, unless it differs by a fault."""
    nic = configured(state, device)
    if nic.address and state.on("ip-wrong", device):
        nic.address = address(state.host_index, device + 100)
    return nic


def write(host: Host, state: State) -> None:
    """Write hccn.conf; newer drivers keep it from other users. No driver, no file."""
    if host.read(f"{DRIVER}/version.info") is None:
        return
    if state.on("hccn-conf-missing"):
        host.remove(HCCN_CONF)
        return
    lines = []
    for device in range(state.devices):
        nic = configured(state, device)
        values = {
            "address": nic.address,
            "netmask": nic.netmask,
            "netdetect": nic.netdetect,
            "gateway": nic.gateway,
            "send_arp_status": "1" if nic.address else "",
            "tls_enable": str(nic.tls) if device in state.nics else "",
        }
        lines += [f"{key}_{device}={value}\n" for key, value in values.items() if value]
    newer = release(state.driver).generation >= 21
    text = "" if state.on("hccn-conf-empty") else "".join(lines)
    host.write(HCCN_CONF, text, 0o640 if newer else 0o644)
