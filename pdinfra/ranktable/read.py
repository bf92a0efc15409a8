"""A table's text → what it is and who is in it. Nothing here raises: lint says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from pdinfra.ranktable import vllm_ascend
from pdinfra.ranktable.ascendcloud import DECODE, PREFILL, SCHEDULER
from pdinfra.versions.rank_tables import Format

Kind = Literal["ascendcloud-global", "ascendcloud-local", "hccl-1.0", "hccl-1.2", "vllm-ascend"]
Role = Literal["scheduler", "prefill", "decode", "instance"]
"""What a server is; ``instance`` where its table does not say."""

FORMATS: dict[Kind, Format] = {
    "ascendcloud-global": "ascendcloud",
    "ascendcloud-local": "ascendcloud",
    "hccl-1.0": "hccl-1.0",
    "hccl-1.2": "hccl-1.2",
    "vllm-ascend": "vllm-ascend",
}
GROUPS: dict[str, Role] = {SCHEDULER: "scheduler", PREFILL: "prefill", DECODE: "decode"}
MINDIE = ("predict_port", "mgmt_port", "metric_port", "inter_comm_port")
"""Fields of MindIE's servers, whose groups "0" to "2" mean something else."""


@dataclass(frozen=True)
class CardSeen:
    """One device as a table names it; None is "not there" or "not a text"."""

    path: str
    device_id: str | None
    device_ip: str | None
    rank_id: str | None
    super_pod_id: str | None
    super_device_id: str | None
    cluster_id: str | None


@dataclass(frozen=True)
class ServerSeen:
    """One server of a table. Of vllm-ascend's lists: the devices of one host and role."""

    path: str
    role: Role
    server_id: str | None
    server_ip: str | None
    cards: tuple[CardSeen, ...]

    @property
    def address(self) -> str | None:
        """Return the host's address; formats without ``server_ip`` have it as the id."""
        return self.server_ip or self.server_id

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the device ids in the order of the table."""
        return tuple(card.device_id or "?" for card in self.cards)

    @property
    def name(self) -> str:
        """Return the name that file names have of it."""
        return f"{self.address}_{''.join(self.devices) if self.cards else 'host'}"


@dataclass(frozen=True)
class Table:
    """One file. ``error`` says why it is not JSON; ``kind`` is None for what is no rank table."""

    file: str
    text: str
    document: Any = None
    error: str = ""
    kind: Kind | None = None
    mindie: bool = False
    servers: tuple[ServerSeen, ...] = ()

    @property
    def name(self) -> str:
        """Return the file's name without its folder."""
        return PurePath(self.file).name

    @property
    def format(self) -> Format | None:
        """Return the format that this is of."""
        return FORMATS[self.kind] if self.kind else None


def read(file: str, text: str) -> Table:
    """Read one table, whatever its format, as far as it can be read."""
    try:
        document = json.loads(text)
    except ValueError as error:
        return Table(file, text, error=str(error))
    kind = _kind(PurePath(file).name, document)
    servers = tuple(_servers(kind, document)) if kind else ()
    return Table(file, text, document, "", kind, _is_mindie(document), servers)


def items(value: object, key: str) -> list[Any]:
    """Return a list inside an object; empty where either is not what it should be."""
    inside = value.get(key) if isinstance(value, dict) else None
    return inside if isinstance(inside, list) else []


def text(value: object, key: str) -> str | None:
    """Return a text inside an object; None where either is not what it should be."""
    inside = value.get(key) if isinstance(value, dict) else None
    return inside if isinstance(inside, str) else None


def _kind(name: str, document: object) -> Kind | None:
    """Return the kind: what the file's name promises, else what the content looks like."""
    if not isinstance(document, dict):
        return None
    if name.startswith("global_ranktable_"):
        return "ascendcloud-global"
    if name.startswith("local_ranktable_"):
        return "ascendcloud-local"
    if any(key in document for key in vllm_ascend.LISTS):
        return "vllm-ascend"
    if "server_group_list" in document:
        return "ascendcloud-global"
    if "group_id" in document:
        return "ascendcloud-local"
    if "server_list" not in document:
        return None
    return "hccl-1.2" if document.get("version") == "1.2" else "hccl-1.0"


def _is_mindie(document: object) -> bool:
    """Tell MindIE's global table, whose outside is the same."""
    servers = [
        server
        for group in items(document, "server_group_list")
        for server in items(group, "server_list")
    ]
    return any(key in server for server in servers if isinstance(server, dict) for key in MINDIE)


def _servers(kind: Kind, document: object) -> Iterator[ServerSeen]:
    """Yield every server."""
    if kind == "vllm-ascend":
        yield from _device_lists(document)
        return
    if kind != "ascendcloud-global":
        yield from _server_list(document, "$", "instance", scheduler=kind == "ascendcloud-local")
        return
    for number, group in enumerate(items(document, "server_group_list")):
        role = GROUPS.get(text(group, "group_id") or "", "instance")
        yield from _server_list(group, f"$.server_group_list[{number}]", role)


def _server_list(
    value: object, path: str, role: Role, *, scheduler: bool = False
) -> Iterator[ServerSeen]:
    """Yield the servers of a list; with ``scheduler``, one without devices is the entry."""
    for number, server in enumerate(items(value, "server_list")):
        place = f"{path}.server_list[{number}]"
        if not isinstance(server, dict):
            continue
        entry = scheduler and "device" not in server
        cards = tuple(
            _card(device, f"{place}.device[{index}]")
            for index, device in enumerate(items(server, "device"))
        )
        yield ServerSeen(
            place,
            "scheduler" if entry else role,
            text(server, "server_id"),
            text(server, "server_ip"),
            cards,
        )


def _device_lists(document: object) -> Iterator[ServerSeen]:
    """Yield the devices of each host and role together."""
    roles: tuple[Role, Role] = ("prefill", "decode")
    for name, role in zip(vllm_ascend.LISTS, roles, strict=True):
        hosts: dict[str | None, list[CardSeen]] = {}
        for number, device in enumerate(items(document, name)):
            card = _card(device, f"$.{name}[{number}]")
            hosts.setdefault(text(device, "server_id"), []).append(card)
        for host, cards in hosts.items():
            yield ServerSeen(cards[0].path, role, host, None, tuple(cards))


def _card(device: object, path: str) -> CardSeen:
    """Return one device."""
    return CardSeen(
        path,
        text(device, "device_id"),
        text(device, "device_ip"),
        text(device, "rank_id"),
        text(device, "super_pod_id"),
        text(device, "super_device_id"),
        text(device, "cluster_id"),
    )
