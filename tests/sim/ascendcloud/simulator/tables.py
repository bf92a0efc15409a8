"""The two rank tables, and what they make of this container.

Format: the guide 003 (global_rank_table.json and local_rank_table.json), reference/ascend.md 5a.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any, Literal

from .container import Container
from .refusal import RefusalError

GLOBAL = "GLOBAL_RANK_TABLE_FILE_PATH"
LOCAL = "RANK_TABLE_FILE_PATH"
Role = Literal["scheduler", "prefill", "decode"]
ROLES: tuple[Role, ...] = ("scheduler", "prefill", "decode")
"""In the order of the groups "0", "1" and "2"."""


@dataclass(frozen=True)
class Device:
    """A card, as the tables have it."""

    device_id: str
    device_ip: str
    rank_id: str


@dataclass(frozen=True)
class Server:
    """An instance's place; the scheduler's has no devices."""

    server_id: str
    server_ip: str
    devices: tuple[Device, ...] = ()

    def __str__(self) -> str:
        """Return it as a message names it."""
        cards = ",".join(device.device_id for device in self.devices)
        return f"{self.server_ip} devices {cards}" if cards else f"{self.server_ip} without devices"


@dataclass(frozen=True)
class Tables:
    """Who this container is, and who else there is, in the order of the global table."""

    role: Role
    server: Server
    prefill: tuple[Server, ...]
    decode: tuple[Server, ...]
    digest: str
    """sha256 of the global table's bytes."""

    @property
    def members(self) -> list[tuple[Role, Server]]:
        """Prefill, then decode: the order that NODE_PORTS must have."""
        return [
            *[("prefill", server) for server in self.prefill],
            *[("decode", server) for server in self.decode],
        ]  # fmt: skip


def read(container: Container) -> Tables:
    """Read both tables. Raises RefusalError with the first thing that is wrong."""
    place = f"{GLOBAL} {container.variable(GLOBAL)}"
    data = _bytes(place, container.variable(GLOBAL))
    scheduler, prefill, decode = _global(place, _document(place, data))
    place = f"{LOCAL} {container.variable(LOCAL)}"
    own = _local(place, _document(place, _bytes(place, container.variable(LOCAL))))
    groups = (scheduler, prefill, decode)
    for role, servers in zip(ROLES, groups, strict=True):
        if own in servers:
            digest = hashlib.sha256(data).hexdigest()
            return Tables(role, own, tuple(prefill), tuple(decode), digest)
    known = "; ".join(f"{role} {each}" for role, g in zip(ROLES, groups, strict=True) for each in g)
    text = "is not in the global table with the same devices, addresses and order, which has"
    raise RefusalError(f"{place}: its server, {_detail(own)}, {text}: {known}")


def _detail(server: Server) -> str:
    """Return a server with all that must be equal."""
    cards = [f"{d.device_id}={d.device_ip} rank {d.rank_id}" for d in server.devices]
    return ", ".join([f"{server.server_id}/{server.server_ip}", *cards])


def _bytes(place: str, path: str) -> bytes:
    """Return a file's content. Raises RefusalError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        who = f"for uid {os.geteuid()}"
        raise RefusalError(f"{place}: cannot be read {who}: {error.strerror}") from None


def _document(place: str, data: bytes) -> dict[str, Any]:
    """Return a table that is complete. Raises RefusalError."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise RefusalError(f"{place}: is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise RefusalError(f"{place}: is no JSON object")
    for key, wanted in (("version", "1.0"), ("status", "completed")):
        if document.get(key) != wanted:
            raise RefusalError(f'{place}: {key} is {json.dumps(document.get(key))}, not "{wanted}"')
    return document


def _global(place: str, document: dict[str, Any]) -> list[list[Server]]:
    """Return the servers of the three groups. Raises RefusalError."""
    groups = document.get("server_group_list")
    if not isinstance(groups, list):
        raise RefusalError(f"{place}: is no global rank table, it has no server_group_list")
    ids = [group.get("group_id") if isinstance(group, dict) else None for group in groups]
    if ids != ["0", "1", "2"]:
        wanted = 'exactly the three groups "0" (scheduler), "1" (prefill) and "2" (decode)'
        raise RefusalError(f"{place}: has the groups {json.dumps(ids)}, not {wanted}")
    found = [
        _servers(f'{place}: group "{group["group_id"]}"', group, devices=group["group_id"] != "0")
        for group in groups
    ]
    if len(found[0]) != 1:
        raise RefusalError(
            f'{place}: group "0" has {len(found[0])} servers, there is one scheduler'
        )
    for name, values in (("card", _cards(found)), ("device_ip", _addresses(found))):
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise RefusalError(f"{place}: {name} {twice[0]} is there twice")
    return found


def _cards(groups: Sequence[Sequence[Server]]) -> list[str]:
    """Return all cards of all groups."""
    return [f"{s.server_ip} device {d.device_id}" for s, d in _devices(groups)]


def _addresses(groups: Sequence[Sequence[Server]]) -> list[str]:
    """Return the addresses of all cards of all groups."""
    return [device.device_ip for _, device in _devices(groups)]


def _devices(groups: Sequence[Sequence[Server]]) -> Iterator[tuple[Server, Device]]:
    """Return all devices with their servers."""
    for group in groups:
        for server in group:
            for device in server.devices:
                yield server, device


def _local(place: str, document: dict[str, Any]) -> Server:
    """Return the one server of a local table. Raises RefusalError."""
    if "server_group_list" in document:
        raise RefusalError(f"{place}: is a global rank table, not the instance's own")
    if document.get("group_id") != "0":
        found = json.dumps(document.get("group_id"))
        raise RefusalError(f'{place}: is no local rank table, its group_id is {found}, not "0"')
    servers = document.get("server_list")
    with_devices = isinstance(servers, list) and any(
        isinstance(server, dict) and "device" in server for server in servers
    )
    found_servers = _servers(place, document, devices=with_devices)
    if len(found_servers) != 1:
        raise RefusalError(f"{place}: has {len(found_servers)} servers, an instance is one")
    return found_servers[0]


def _servers(place: str, group: dict[str, Any], *, devices: bool) -> list[Server]:
    """Return a group's servers, with devices or without any. Raises RefusalError."""
    servers = group.get("server_list")
    if not isinstance(servers, list) or not servers:
        raise RefusalError(f"{place}: has no servers")
    if group.get("server_count") != str(len(servers)):
        found = json.dumps(group.get("server_count"))
        raise RefusalError(f'{place}: server_count is {found}, not "{len(servers)}"')
    found_servers = []
    for number, server in enumerate(servers):
        where = f"{place}, server {number}"
        cards = server.get("device") if isinstance(server, dict) else None
        if devices != bool(cards) or not isinstance(cards or [], list):
            raise RefusalError(f"{where}: {'has no devices' if devices else 'has devices'}")
        found_servers.append(
            Server(
                _text(where, server, "server_id"),
                _text(where, server, "server_ip"),
                tuple(_device(where, rank, card) for rank, card in enumerate(cards or [])),
            )
        )
    return found_servers


def _device(where: str, rank: int, device: dict[str, Any]) -> Device:
    """Return one device. Raises RefusalError."""
    place = f"{where}, device {rank}"
    found = Device(*(_text(place, device, key) for key in ("device_id", "device_ip", "rank_id")))
    if not found.device_id.isdecimal():
        raise RefusalError(f'{place}: device_id "{found.device_id}" is no number')
    if found.rank_id != str(rank):
        raise RefusalError(
            f'{place}: rank_id is "{found.rank_id}", ranks are "0", "1", ... in order'
        )
    try:
        IPv4Address(found.device_ip)
    except AddressValueError:
        raise RefusalError(f'{place}: device_ip "{found.device_ip}" is no address') from None
    return found


def _text(place: str, document: object, key: str) -> str:
    """Return a field, which must be a string that is not empty. Raises RefusalError."""
    value = document.get(key) if isinstance(document, dict) else None
    if isinstance(value, str) and value:
        return value
    raise RefusalError(f"{place}: {key} is {json.dumps(value)}, not a string")
