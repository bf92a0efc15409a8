"""vllm-ascend's table for LLMDataDist: a list of prefill devices and one of decode devices.

As ``gen_ranktable.py`` of v0.9.1 to v0.11.0 writes it (versions/rank_tables.yml). Two things
differ on purpose. The tool lists every card of every host and cuts the list after
--prefill-device-cnt; here only the instances' cards are listed, so no card can fall on the wrong
side. The tool needs all hosts at once; here each host's file can be merged. ``server_count`` is the
number of hosts, as there.
"""

from __future__ import annotations

from collections.abc import Sequence

from pdinfra.ranktable.dump import Document, dump
from pdinfra.ranktable.topology import File, Server, Topology

NAME = "ranktable.json"
LISTS = ("prefill_device_list", "decode_device_list")


def table(topology: Topology) -> Document:
    """Return the table; ``cluster_id`` counts from 1 through prefill, then decode."""
    return _table(_devices(topology.prefill), _devices(topology.decode))


def generate(topology: Topology, address: str) -> list[File]:
    """Return one host's file."""
    return [File(NAME, dump(table(topology.on(address))))]


def merge(tables: Sequence[Document]) -> File:
    """Return all devices in the order of the tables, counted anew."""
    prefill, decode = ([device for each in tables for device in each[name]] for name in LISTS)
    return File(NAME, dump(_table(prefill, decode)))


def _table(prefill: Sequence[Document], decode: Sequence[Document]) -> Document:
    """Return a table of devices; each gets its cluster id, the last of its keys."""
    devices = [
        {**device, "cluster_id": str(number)}
        for number, device in enumerate([*prefill, *decode], start=1)
    ]
    return {
        "version": "1.2",
        "server_count": str(len({device["server_id"] for device in devices})),
        "prefill_device_list": devices[: len(prefill)],
        "decode_device_list": devices[len(prefill) :],
        "status": "completed",
    }


def _devices(servers: Sequence[Server]) -> list[Document]:
    """Return every card of some instances; super pods only on A3."""
    devices = []
    for server in servers:
        for card in server.cards:
            device = {
                "server_id": server.address,
                "device_id": str(card.device),
                "device_ip": card.ip,
            }
            if card.super_pod is not None and card.super_device is not None:
                device["super_pod_id"] = card.super_pod
                device["super_device_id"] = card.super_device
            devices.append(device)
    return devices
