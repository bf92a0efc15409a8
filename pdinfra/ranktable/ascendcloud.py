"""AscendCloud's tables: one global with three groups, a local for each instance and the entry.

As the public copies of the vendor's ``pd_ranktable_tools.py`` (modes gen and merge) write them; see
versions/rank_tables.yml. Where the sources leave a doubt:

- The guide starts servers with ``local_rank_table_<ip>_45.json``, its tool writes
  ``local_ranktable_<ip>_45.json``: the tool's name is taken.
- Older copies take the host's address from its name, newer ones from the route outwards or from
  ``--ip``: the caller decides here.
- Modes merge-local and merge-all are not in the guide, and write counts as numbers and a table
  without a scheduler: they are not made here, and lint says so of their files.
- One copy (omni-infer) can put a ``device_port`` after ``rank_id`` (``--replace-device-list``);
  it is read and merged, never generated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pdinfra.ranktable.dump import Document, dump
from pdinfra.ranktable.topology import File, Server, Topology

SCHEDULER, PREFILL, DECODE = "0", "1", "2"
"""The ids of the groups, which are in this order in every table."""

MERGED = "global_ranktable_merge.json"


def global_table(topology: Topology) -> Document:
    """Return the global table. A part of a service has only the groups that it has members of."""
    groups = [
        (SCHEDULER, [_place(topology.scheduler)] if topology.scheduler else []),
        (PREFILL, [_server(each) for each in topology.prefill]),
        (DECODE, [_server(each) for each in topology.decode]),
    ]
    return _global(groups)


def local_table(server: Server) -> Document:
    """Return one instance's table; its server is the same as in the global table."""
    return _local(_server(server))


def host_table(address: str) -> Document:
    """Return the table of the service's entry (api-server, scheduler): a place without devices."""
    return _local(_place(address))


def generate(topology: Topology, address: str) -> list[File]:
    """Return the files that mode gen writes on one host of a service."""
    part = topology.on(address)
    files = [File(f"global_ranktable_{address}.json", dump(global_table(part)))]
    files += [local_file(server) for server in part.servers]
    if part.scheduler:
        files.append(host_file(part.scheduler))
    return files


def local_file(server: Server) -> File:
    """Return one instance's file."""
    return File(f"local_ranktable_{server.name}.json", dump(local_table(server)))


def host_file(address: str) -> File:
    """Return the entry's file."""
    return File(f"local_ranktable_{address}_host.json", dump(host_table(address)))


def merge(tables: Sequence[Document]) -> File:
    """Return what mode merge writes: each group's servers in the order of the tables.

    This order is the one that NODE_PORTS must repeat. The tables must be global ones; whether the
    outcome is whole (one scheduler, no card twice) is lint's to say.
    """
    servers: dict[str, list[Document]] = defaultdict(list)
    for table in tables:
        for group in table["server_group_list"]:
            servers[group["group_id"]] += group["server_list"]
    groups = [(group, servers[group]) for group in (SCHEDULER, PREFILL, DECODE)]
    return File(MERGED, dump(_global(groups)))


def _global(groups: Sequence[tuple[str, list[Document]]]) -> Document:
    """Return a global table of the groups that have a server."""
    return {
        "version": "1.0",
        "status": "completed",
        "server_group_list": [
            {"group_id": group, "server_count": str(len(servers)), "server_list": servers}
            for group, servers in groups
            if servers
        ],
    }


def _local(server: Document) -> Document:
    """Return a local table."""
    return {
        "version": "1.0",
        "status": "completed",
        "group_id": "0",
        "server_count": "1",
        "server_list": [server],
    }


def _place(address: str) -> Document:
    """Return a server without devices."""
    return {"server_id": address, "server_ip": address}


def _server(server: Server) -> Document:
    """Return an instance's server; ranks start at 0 in each."""
    devices = [
        {"device_id": str(card.device), "device_ip": card.ip, "rank_id": str(rank)}
        for rank, card in enumerate(server.cards)
    ]
    return {**_place(server.address), "device": devices}
