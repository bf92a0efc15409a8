"""Which lab host a device address belongs to, and whether that host can be reached."""

from __future__ import annotations

import fcntl
import socket
import struct

INTERFACE = b"eth0"
SSH = 22
PATIENCE = 1.0
"""Seconds to wait for another host's answer."""
SIOCGIFADDR = 0x8915
FIRST_HOST = 10
"""Lab host K has this plus K as the last number of its address."""
NETWORKS = ("10.20.", "192.168.")


def own_address() -> str | None:
    """Return this host's address in the lab, or None without an interface of that name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", INTERFACE)
        try:
            answer = fcntl.ioctl(probe, SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def owner(device_address: str) -> int | None:
    """Return the index of the host that has a device address, or None for a foreign one."""
    if not device_address.startswith(NETWORKS):
        return None
    parts = device_address.split(".")
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        return None
    return int(parts[2])


def host_address(index: int) -> str | None:
    """Return a lab host's real address: the hosts share this one's subnet."""
    mine = own_address()
    return f"{mine.rpartition('.')[0]}.{FIRST_HOST + index}" if mine else None


def matches(peer: str | None, device_address: str) -> bool:
    """Tell whether a fault's peer means this device: all, the device, or its host's address."""
    if peer in (None, device_address):
        return True
    index = owner(device_address)
    return index is not None and peer == host_address(index)


def reaches(device_address: str, host_index: int) -> bool:
    """Tell whether the host of a device address answers over the lab's real network."""
    index = owner(device_address)
    if index is None:
        return False
    if index == host_index:
        return True
    peer = host_address(index)
    if peer is None:
        return False
    try:
        socket.create_connection((peer, SSH), timeout=PATIENCE).close()
    except OSError:
        return False
    return True
