"""A lab's names, addresses and ports, all derived from its name; pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TypeVar

from pdinfra.assets import ROOT

DEFAULT_NAME = "lab"
MAX_HOSTS = 32
LABEL = "pdinfra.lab"
"""Label of everything a lab owns; its value is the lab's name."""
LABEL_NODE = "pdinfra.lab.node"
LABEL_NPUS = "pdinfra.lab.npus"
LABEL_HOME = "pdinfra.lab.home"
"""Label of a lab's network: the state folder that holds the keys of its hosts."""
BLOBS = "pdinfra-lab-registry"
"""Volume with the registry's blobs, shared by all labs, so that an image is pushed once."""
SHARED = "/srv/shared"
"""Where every host has the folder that is the same one on all."""
QUAY = "quay.io"
"""The name that a lab's registry answers to inside the lab."""

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")
_SECOND_OCTETS = range(128, 240)
"""Private addresses that neither Docker's own pools nor common site plans start with."""
_PORTS = range(5500, 5900)
_FIRST_NODE = 10


@dataclass(frozen=True)
class Lab:
    """One lab by its name; ``root`` is the checkout that its keys and inventory live in."""

    name: str
    root: Path = ROOT

    @property
    def network(self) -> str:
        """The Docker network."""
        return f"pdinfra-lab-{self.name}"

    @property
    def registry(self) -> str:
        """The registry's container."""
        return f"{self.network}-registry"

    @property
    def home(self) -> Path:
        """Folder of the lab's keys, certificates and memory; never committed."""
        return self.root / ".lab" / self.name

    @property
    def inventory(self) -> Path:
        """Folder of the inventory that the lab writes."""
        folder = "lab" if self.name == DEFAULT_NAME else f"lab-{self.name}"
        return self.root / "inventories" / folder

    @property
    def labels(self) -> dict[str, str]:
        """Labels of everything that belongs to this lab alone."""
        return {LABEL: self.name}

    @property
    def shared(self) -> str:
        """The volume that all hosts have as one folder."""
        return f"{self.network}-shared"

    def container(self, node: str) -> str:
        """Return the name of a host's container."""
        return f"{self.network}-{node}"

    def volume(self, node: str) -> str:
        """Return the name of the volume below a host's /var/lib/docker."""
        return f"{self.network}-{node}-docker"


def valid_name(name: str) -> bool:
    """Tell whether a lab may be called so: it becomes part of names of containers and folders."""
    return _NAME.fullmatch(name) is not None


def nodes(count: int) -> list[str]:
    """Return the first host names of a lab."""
    return [f"node{number}" for number in range(1, count + 1)]


def number(node: str) -> int:
    """Return a host's number. Raises ValueError if it is no host name of a lab."""
    return int(node.removeprefix("node"))


def gateway(subnet: IPv4Network) -> IPv4Address:
    """Return the address of the machine in a lab's network."""
    return subnet[1]


def registry_address(subnet: IPv4Network) -> IPv4Address:
    """Return the address of a lab's registry."""
    return subnet[2]


def address(subnet: IPv4Network, node: str) -> IPv4Address:
    """Return the address of a host."""
    return subnet[_FIRST_NODE + number(node)]


def free_subnet(name: str, taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """Return the first /24 from the one that the name points to that overlaps none, if any."""
    used = list(taken)
    choices = (IPv4Network(f"10.{s}.{t}.0/24") for s in _SECOND_OCTETS for t in range(256))
    free = (s for s in _from(name, list(choices)) if not any(s.overlaps(u) for u in used))
    return next(free, None)


def ports(name: str) -> Iterator[int]:
    """Yield ports for a lab's registry on the machine, the name's own first."""
    return _from(name, list(_PORTS))


def _from(name: str, choices: Sequence[T]) -> Iterator[T]:
    """Yield all choices, beginning where the name points to."""
    start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(choices)
    yield from choices[start:]
    yield from choices[:start]


def routes(table: str) -> list[IPv4Network]:
    """Return the networks of a /proc/net/route (addresses are hexadecimal, lowest byte first)."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        target, mask = (IPv4Address(bytes.fromhex(fields[i])[::-1]) for i in (1, 7))
        if int(mask):
            found.append(IPv4Network(f"{target}/{mask}", strict=False))
    return found
