"""Which keys a table of each format has, of which type, and what may be in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pdinfra.ranktable.findings import AGAIN, Finding, finding
from pdinfra.ranktable.read import Kind, Table

LONGEST = 60


@dataclass(frozen=True)
class Text:
    """A text that a pattern matches as a whole."""

    pattern: str
    expected: str
    optional: bool = False


@dataclass(frozen=True)
class Items:
    """A list of objects."""

    keys: Mapping[str, Text | Items]
    optional: bool = False
    empty: bool = False


Keys = Mapping[str, Text | Items]

NUMBER = Text(r"0|[1-9]\d*", "a whole number as a text")
ANY = Text(r"(?s).+", "a text")
PORT = Text(r"[1-9]\d{0,4}", "a port as a text", optional=True)
STATUS = Text("completed", '"completed"')

DEVICE: Keys = {"device_id": NUMBER, "device_ip": ANY, "rank_id": NUMBER, "device_port": PORT}
HCCL_DEVICE: Keys = {**DEVICE, "host_port": PORT}
CLOUD_SERVER: Keys = {
    "server_id": ANY,
    "server_ip": ANY,
    "device": Items(DEVICE, optional=True),
}
CLOUD: Keys = {"version": Text(r"1\.0", '"1.0"'), "status": STATUS}

HCCL_ID = Text(r"(?s).{1,64}", "a text of at most 64 characters")
BACKUP: Keys = {
    "backup_device_ip": Text(r".+", "an address", optional=True),
    "backup_device_port": PORT,
}
SDID: Keys = {"super_device_id": NUMBER}


def _hccl(version: str, device: Keys) -> Keys:
    """Return the keys of an HCCL table, without those of pods."""
    server: Keys = {
        "server_id": HCCL_ID,
        "host_ip": Text(r".+", "an address", optional=True),
        "device": Items(device),
    }
    return {
        "status": STATUS,
        "version": Text(re.escape(version), f'"{version}"'),
        "server_count": Text(NUMBER.pattern, NUMBER.expected, optional=version != "1.0"),
        "server_list": Items(server),
    }


LISTED: Keys = {
    "server_id": ANY,
    "device_id": NUMBER,
    "device_ip": ANY,
    "super_pod_id": Text(NUMBER.pattern, NUMBER.expected, optional=True),
    "super_device_id": Text(NUMBER.pattern, NUMBER.expected, optional=True),
    "cluster_id": NUMBER,
}
SHAPES: dict[Kind, Keys] = {
    "ascendcloud-global": {
        **CLOUD,
        "server_group_list": Items(
            {
                "group_id": Text("[012]", '"0", "1" or "2"'),
                "server_count": NUMBER,
                "server_list": Items(CLOUD_SERVER),
            }
        ),
    },
    "ascendcloud-local": {
        **CLOUD,
        "group_id": Text("0", '"0"'),
        "server_count": NUMBER,
        "server_list": Items(CLOUD_SERVER),
    },
    "hccl-1.0": _hccl("1.0", HCCL_DEVICE),
    "hccl-1.2": {
        **_hccl("1.2", {**HCCL_DEVICE, **BACKUP, **SDID}),
        "super_pod_list": Items(
            {"super_pod_id": HCCL_ID, "server_list": Items({"server_id": HCCL_ID})}
        ),
    },
    "vllm-ascend": {
        "version": Text(r"1\.2", '"1.2"'),
        "server_count": NUMBER,
        "prefill_device_list": Items(LISTED, empty=True),
        "decode_device_list": Items(LISTED, empty=True),
        "status": STATUS,
    },
}


def check(table: Table) -> Iterator[Finding]:
    """Yield what is missing, too much, of another type or of another form."""
    if table.kind is not None:
        yield from _keys(table, table.document, SHAPES[table.kind], "$")


def shown(value: Any) -> str:
    """Return a value as JSON has it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _keys(table: Table, value: Any, keys: Keys, path: str) -> Iterator[Finding]:
    """Check one object."""
    if not isinstance(value, dict):
        yield finding("shape", table, path, shown(value), "an object", AGAIN)
        return
    for key, spec in keys.items():
        place = f"{path}.{key}"
        if key in value:
            yield from _value(table, value[key], spec, place)
        elif not spec.optional:
            yield finding("shape", table, place, "nothing", _expected(spec), AGAIN)
    for key in value:
        if key not in keys:
            yield finding(
                "shape",
                table,
                f"{path}.{key}",
                shown(value[key]),
                "no such key in this format",
                AGAIN,
            )


def _value(table: Table, value: Any, spec: Text | Items, path: str) -> Iterator[Finding]:
    """Check what is at one key."""
    if isinstance(spec, Text):
        if not isinstance(value, str) or not re.fullmatch(spec.pattern, value):
            yield finding("shape", table, path, shown(value), spec.expected, AGAIN)
        return
    if not isinstance(value, list) or not (value or spec.empty):
        yield finding("shape", table, path, shown(value), _expected(spec), AGAIN)
        return
    for number, each in enumerate(value):
        yield from _keys(table, each, spec.keys, f"{path}[{number}]")


def _expected(spec: Text | Items) -> str:
    """Return what should be there, in words."""
    if isinstance(spec, Text):
        return spec.expected
    return "a list" if spec.empty else "a list with at least one element"
