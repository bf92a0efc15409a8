"""Where pdinfra keeps what on a host."""

from __future__ import annotations

HOME = "/var/lib/pdinfra"


def rank_table_dir(service: str) -> str:
    """Return the folder of a host's rank tables."""
    return f"{HOME}/{service}/ranktables"


def socket_dir(service: str) -> str:
    """Return the folder of a worker's sockets: engines that have it too need not copy by TCP."""
    return f"{HOME}/{service}/sockets"


def kv_dir(service: str) -> str:
    """Return the folder that engines of one machine share for KV, unless another one is given."""
    return f"{HOME}/{service}/kv"
