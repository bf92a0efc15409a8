"""HCCL's own tables: 1.0 (A2, A3 servers) and 1.2 (A3 super pods), each of one group of devices.

From HCCL's documents (versions/rank_tables.yml). Where they leave a doubt:

- They show files, but no tool that writes them: keys are in the order of their samples, texts
  where the samples have texts, the layout is that of the other formats. ``server_count`` is
  optional in 1.2 and written all the same, as in the sample.
- They name no file: here ``rank_table_<server>_<devices>.json``, and ``rank_table_merge.json``.
- ``host_ip``, ports and the backup fields are optional: read and merged, never generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pdinfra.ranktable.dump import Document, dump
from pdinfra.ranktable.topology import Card, File, Server, Topology

Version = Literal["1.0", "1.2"]

MERGED = "rank_table_merge.json"


def table(servers: Sequence[Server], version: Version) -> Document:
    """Return the table of one group of devices; ranks are counted through all servers.

    Raises ValueError if version 1.2 is asked for a card whose SDID or pod is not known.
    """
    members: list[Document] = []
    pods: dict[str, list[Document]] = {}
    rank = 0
    for server in servers:
        devices = []
        for card in server.cards:
            devices.append(_device(card, rank, version))
            rank += 1
        members.append({"server_id": server.address, "device": devices})
        for pod in dict.fromkeys(card.super_pod for card in server.cards if card.super_pod):
            pods.setdefault(pod, []).append({"server_id": server.address})
    document: Document = {
        "status": "completed",
        "version": version,
        "server_count": str(len(members)),
        "server_list": members,
    }
    if version == "1.2":
        document["super_pod_list"] = _pods(pods)
    return document


def generate(topology: Topology, address: str, version: Version) -> list[File]:
    """Return one table for each instance of one host."""
    return [
        File(f"rank_table_{server.name}.json", dump(table([server], version)))
        for server in topology.on(address).servers
    ]


def merge(tables: Sequence[Document]) -> File:
    """Return one group of all devices: servers in the order of the tables, ranks counted anew.

    The tables must be of one version.
    """
    members: list[Document] = []
    pods: dict[str, list[Document]] = {}
    rank = 0
    for each in tables:
        for server in each["server_list"]:
            devices = []
            for device in server["device"]:
                devices.append({**device, "rank_id": str(rank)})
                rank += 1
            members.append({**server, "device": devices})
        for pod in each.get("super_pod_list", []):
            pods.setdefault(pod["super_pod_id"], []).extend(pod["server_list"])
    document = {**tables[0], "server_count": str(len(members)), "server_list": members}
    if pods:
        document["super_pod_list"] = _pods(pods)
    return File(MERGED, dump(document))


def _device(card: Card, rank: int, version: Version) -> Document:
    """Return one device."""
    device = {"device_id": str(card.device)}
    if version == "1.2":
        if card.super_device is None or card.super_pod is None:
            raise ValueError(f"device {card.device}: its SDID or super pod is not known")
        device["super_device_id"] = card.super_device
    return {**device, "device_ip": card.ip, "rank_id": str(rank)}


def _pods(pods: dict[str, list[Document]]) -> list[Document]:
    """Return the pods with their servers."""
    return [{"super_pod_id": pod, "server_list": servers} for pod, servers in pods.items()]
