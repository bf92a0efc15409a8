"""What lint says, and what it may be told besides the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pdinfra.ranktable.read import Table
from pdinfra.versions.rank_tables import Format


class Finding(BaseModel):
    """One thing that is wrong: in which file, where in it, what was found, what mends it."""

    model_config = ConfigDict(frozen=True)

    rule: str
    file: str
    path: str
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        """Return the one line that a person reads."""
        place = f"{self.file}: {self.path}: found {self.found}, expected {self.expected}"
        return f"{place}. Fix: {self.fix}"


@dataclass(frozen=True)
class Stat:
    """A file as its host has it: permission bits, owner, and time of change (Unix seconds)."""

    mode: int
    uid: int
    gid: int
    changed: float


@dataclass(frozen=True)
class Known:
    """What is known from elsewhere; what is left out is not checked.

    Instances are named as their files are: ``10.0.0.18_45``.

    - ``format``: what the engines read (versions/rank_tables.yml).
    - ``part``: the global tables are of one host each and not yet merged.
    - ``live``: devices' addresses by host and device, from hccn_tool or hccn.conf.
    - ``hosts``: every address that a server may have.
    - ``node_ports``: NODE_PORTS, taken apart; ``ports``: each instance's own --port.
    - ``tensor_parallel``: --tensor-parallel-size by role; ``containers``: devices by instance.
    - ``stats``: by file; ``reader``: the uid and gid that read them in the container.
    - ``copies``: the global table's SHA-256 by host.
    - ``network_changed``: when a device's address changed last (Unix seconds).
    """

    format: Format | None = None
    part: bool = False
    live: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    hosts: frozenset[str] | None = None
    node_ports: tuple[str, ...] | None = None
    ports: Mapping[str, int] = field(default_factory=dict)
    tensor_parallel: Mapping[Literal["prefill", "decode"], int] = field(default_factory=dict)
    containers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    stats: Mapping[str, Stat] = field(default_factory=dict)
    reader: tuple[int, int] | None = None
    copies: Mapping[str, str] = field(default_factory=dict)
    network_changed: float | None = None


AGAIN = "write it again with `ranktable gen`, and `ranktable merge` for several hosts"
"""The fix for whatever nobody should have written."""


@dataclass(frozen=True)
class Set:
    """The tables that are linted together.

    ``whole`` are the global tables that engines read, ``parts`` those of one host that were merged
    or still are to be.
    """

    tables: tuple[Table, ...]
    whole: tuple[Table, ...]
    parts: tuple[Table, ...]
    locals: tuple[Table, ...]


def finding(rule: str, table: Table, path: str, found: str, expected: str, fix: str) -> Finding:
    """Return a finding on a table."""
    return Finding(rule=rule, file=table.file, path=path, found=found, expected=expected, fix=fix)
