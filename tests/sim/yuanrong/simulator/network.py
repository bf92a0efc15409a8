"""Addresses and ports, as yr/cli/utils.py of 9.9.9 finds them."""

from __future__ import annotations

import random
import socket


def own_address() -> str:
    """Return the address of the default route; sends nothing. Raises OSError without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("8.8.8.8", 80))
        return str(probe.getsockname()[0])


def is_free(port: int) -> bool:
    """Tell whether a port can be bound; one in TIME_WAIT cannot."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def same_or_free(port: int) -> int:
    """Return the port, or any free one if it is taken; who asked learns of it from a log line."""
    if is_free(port):
        return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def random_free(low: int, high: int) -> int:
    """Return some free port of a range."""
    while True:
        port = random.randrange(low, high)
        if is_free(port):
            return port
