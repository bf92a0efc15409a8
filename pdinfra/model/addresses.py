"""What can be told from an address alone."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address


def is_ip(text: str) -> bool:
    """Tell an IP address from a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_ipv4(text: str) -> bool:
    """Tell whether a text is an IPv4 address."""
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Tell whether only the machine itself reaches an address."""
    return address == "localhost" or (is_ip(address) and ip_address(address).is_loopback)
