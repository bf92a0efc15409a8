"""What every rank table says, free of a format: servers, their cards, their roles."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pdinfra.model.addresses import is_ipv4, is_loopback
from pdinfra.model.problems import Problem

Role = Literal["prefill", "decode"]


@dataclass(frozen=True)
class Card:
    """One device by its physical id (/dev/davinciN), and its address in the NPUs' own network.

    ``super_device`` is the SDID and ``super_pod`` the pod's id, on A3 super pods only.
    """

    device: int
    ip: str
    super_device: str | None = None
    super_pod: str | None = None


@dataclass(frozen=True)
class Server:
    """One instance: the address of its host, and its cards in the order of their ranks."""

    address: str
    cards: tuple[Card, ...]

    @property
    def name(self) -> str:
        """Return what the vendor's tool calls it in file names: ``10.0.0.18_45``.

        The device ids are joined without a separator: 1,2 and 12 have the same name.
        """
        return f"{self.address}_{''.join(str(card.device) for card in self.cards)}"


@dataclass(frozen=True)
class Topology:
    """A whole service or one host's part of it; ``scheduler`` is the address of the entry's host.

    The order of ``prefill`` and ``decode`` is the order in every table, and of ``NODE_PORTS``.
    """

    prefill: tuple[Server, ...] = ()
    decode: tuple[Server, ...] = ()
    scheduler: str | None = None

    @property
    def servers(self) -> tuple[Server, ...]:
        """Return every instance, prefill first."""
        return (*self.prefill, *self.decode)

    def on(self, address: str) -> Topology:
        """Return one host's part."""
        return Topology(
            tuple(each for each in self.prefill if each.address == address),
            tuple(each for each in self.decode if each.address == address),
            self.scheduler if self.scheduler == address else None,
        )


@dataclass(frozen=True)
class File:
    """A file to write: its name, and its text, UTF-8 without a newline at the end."""

    name: str
    text: str


def problems(topology: Topology) -> list[Problem]:
    """Return everything that makes a table useless before one is written, each with its fix."""
    return [*place_problems(topology), *_devices(topology), *_device_ips(topology)]


def place_problems(topology: Topology) -> list[Problem]:
    """Return what can be told without the devices' addresses; shared devices are not among it."""
    return [*_addresses(topology), *_sizes(topology), *_names(topology)]


def _addresses(topology: Topology) -> Iterator[Problem]:
    """Refuse hosts that the others cannot reach by what the table would say."""
    fix = "name the host's address that the other hosts reach, e.g. --ip 10.0.0.18"
    used = [each.address for each in topology.servers]
    for address in dict.fromkeys([*used, *([topology.scheduler] if topology.scheduler else [])]):
        if is_loopback(address):
            yield Problem(
                host=address, thing="address", cause="only the host itself reaches it", fix=fix
            )
        elif not is_ipv4(address):
            yield Problem(host=address, thing="address", cause="not an IPv4 address", fix=fix)


def _sizes(topology: Topology) -> Iterator[Problem]:
    """Refuse instances without a card, and instances of one role that differ in size."""
    roles: dict[Role, tuple[Server, ...]] = {
        "prefill": topology.prefill,
        "decode": topology.decode,
    }
    for role, servers in roles.items():
        for server in servers:
            if not server.cards:
                yield Problem(
                    host=server.address,
                    thing=f"{role} instance",
                    cause="it has no card",
                    fix="name its devices, e.g. 4,5",
                )
        counts = Counter(len(server.cards) for server in servers)
        usual = counts.most_common(1)[0][0] if counts else 0
        for server in servers:
            if server.cards and len(server.cards) != usual:
                yield Problem(
                    host=server.address,
                    thing=f"{role} instance on devices {listed(server)}",
                    cause=f"{len(server.cards)} cards, the other {role} instances have {usual}",
                    fix=f"give every {role} instance as many cards: its tensor-parallel size",
                )


def _devices(topology: Topology) -> Iterator[Problem]:
    """Refuse a device that two instances have, or one has twice."""
    users: dict[tuple[str, int], list[str]] = defaultdict(list)
    for role, servers in (("prefill", topology.prefill), ("decode", topology.decode)):
        for server in servers:
            for card in server.cards:
                users[server.address, card.device].append(f"{role} {listed(server)}")
    for (address, device), names in users.items():
        if len(names) > 1:
            yield Problem(
                host=address,
                thing=f"device {device}",
                cause=f"it is used {len(names)} times: {' and '.join(names)}",
                fix="give each instance devices of its own",
            )


def _device_ips(topology: Topology) -> Iterator[Problem]:
    """Refuse device addresses that are none, loopback, or another device's too."""
    users: dict[str, dict[str, str]] = defaultdict(dict)
    for server in topology.servers:
        for card in server.cards:
            users[card.ip].setdefault(f"{server.address} device {card.device}", server.address)
            thing, fix = (
                f"device {card.device}",
                f"`hccn_tool -i {card.device} -ip -g` must name it",
            )
            if not is_ipv4(card.ip):
                cause = f"its address {card.ip!r} is not an IPv4 address"
                yield Problem(host=server.address, thing=thing, cause=cause, fix=fix)
            elif is_loopback(card.ip):
                cause = f"its address {card.ip} is the loopback"
                yield Problem(host=server.address, thing=thing, cause=cause, fix=fix)
    for ip, names in users.items():
        if len(names) > 1:
            yield Problem(
                host=next(iter(names.values())),
                thing=f"device address {ip}",
                cause=f"several devices have it: {', '.join(names)}",
                fix="give each device one of its own: hccn_tool -i N -ip -s address A netmask M",
            )


def _names(topology: Topology) -> Iterator[Problem]:
    """Refuse instances whose files would have one name (devices 1,2 and 12 on one host)."""
    lists: dict[str, list[Server]] = defaultdict(list)
    for server in topology.servers:
        lists[server.name].append(server)
    for name, servers in lists.items():
        if len({listed(server) for server in servers}) > 1:
            yield Problem(
                host=servers[0].address,
                thing=f"local_ranktable_{name}.json",
                cause=f"devices {' and '.join(map(listed, servers))} would share this file name",
                fix="choose other devices: the vendor's file names join their ids",
            )


def listed(server: Server) -> str:
    """Return a server's devices as arguments name them: ``4,5``."""
    return ",".join(str(card.device) for card in server.cards)
