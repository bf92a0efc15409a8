"""Members of the service: the file that names them, and whether they make a service."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Member:
    """One engine; ``role`` is prefill, decode or mixed.

    ``kv`` is where its connector is asked for KV, if a request must name it: ``address:port`` of
    P2pNcclConnector, the URL of MooncakeConnector's bootstrap server on prefill; else empty.
    """

    id: str
    role: str
    url: str
    kv: str = ""


def read(path: Path) -> tuple[Member, ...]:
    """Return the members that the file names. Raises OSError, ValueError, KeyError, TypeError."""
    document: Any = json.loads(path.read_text(encoding="utf-8"))
    return tuple(Member(m["id"], m["role"], m["url"], m.get("kv", "")) for m in document["members"])


def serves(members: Iterable[Member]) -> bool:
    """Tell whether requests can be answered: a prefill and a decode, or a mixed one."""
    roles = {member.role for member in members}
    return "mixed" in roles or {"prefill", "decode"} <= roles
