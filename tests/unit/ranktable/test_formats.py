"""Files byte for byte as the vendors' tools write them (golden files from their guides)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pdinfra.ranktable import ascendcloud, hccl, vllm_ascend
from pdinfra.ranktable.dump import dump
from pdinfra.ranktable.formats import WRITERS
from pdinfra.ranktable.topology import Card, Server, Topology
from tests.unit.ranktable.topologies import GUIDE, HOSTS, TWO, A, B, server

GOLDEN = Path(__file__).parent / "golden"


def golden(folder: str) -> dict[str, str]:
    """Return a folder's files."""
    return {path.name: path.read_bytes().decode() for path in (GOLDEN / folder).iterdir()}


@pytest.mark.parametrize(("folder", "topology"), [("1p1d", GUIDE), ("2p2d", TWO)])
def test_one_host_is_as_the_vendors_tool_writes_it(folder: str, topology: Topology) -> None:
    files = {file.name: file.text for file in ascendcloud.generate(topology, A)}
    assert files == golden(folder)


def test_merge_is_as_the_vendors_tool_writes_it() -> None:
    parts = {host: ascendcloud.generate(HOSTS, host)[0] for host in (A, B)}
    merged = ascendcloud.merge([json.loads(part.text) for part in parts.values()])
    assert {file.name: file.text for file in (*parts.values(), merged)} == golden("merge")


def test_merge_keeps_the_order_of_its_arguments() -> None:
    tables = [json.loads(ascendcloud.generate(HOSTS, host)[0].text) for host in (B, A)]
    merged = json.loads(ascendcloud.merge(tables).text)
    (_, prefill, decode) = merged["server_group_list"]
    assert [each["server_ip"] for each in prefill["server_list"]] == [B, A]
    assert [each["server_ip"] for each in decode["server_list"]] == [B, A]


def test_merge_keeps_what_this_library_never_writes() -> None:
    tables = [json.loads(ascendcloud.generate(HOSTS, host)[0].text) for host in (A, B)]
    device = tables[1]["server_group_list"][0]["server_list"][0]["device"][0]
    device["device_port"] = "16667"
    assert '"device_port": "16667"' in ascendcloud.merge(tables).text


VLLM = Topology(
    (server("172.19.32.175", "01", "29.81.3.1"),), (server("172.19.32.176", "01", "29.81.4.1"),)
)


def test_vllm_ascend() -> None:
    wanted = golden("vllm-ascend")["ranktable.json"]
    assert dump(vllm_ascend.table(VLLM)) == wanted
    hosts = ("172.19.32.175", "172.19.32.176")
    parts = [WRITERS["vllm-ascend"].generate(VLLM, host)[0] for host in hosts]
    merged = vllm_ascend.merge([json.loads(part.text) for part in parts])
    assert (merged.name, merged.text) == ("ranktable.json", wanted)


def test_vllm_ascend_on_a3_has_super_pods() -> None:
    topology = Topology(
        (Server("172.19.32.175", (Card(0, "192.168.2.199", "16777216", "0"),)),),
        (Server("172.19.32.175", (Card(1, "192.168.2.200", "16842753", "0"),)),),
    )
    assert dump(vllm_ascend.table(topology)) == golden("vllm-ascend")["ranktable_a3.json"]


def test_hccl() -> None:
    servers = (server(A, "01", "192.168.1."), server(B, "01", "192.168.2."))
    moved = [
        Server(
            each.address, tuple(Card(c.device, f"{c.ip[:-1]}{c.device + 8}") for c in each.cards)
        )
        for each in servers
    ]
    assert dump(hccl.table(moved, "1.0")) == golden("hccl")["1.0.json"]
    parts = [hccl.table([each], "1.0") for each in moved]
    assert hccl.merge(parts).text == golden("hccl")["1.0.json"]


def test_hccl_super_pods() -> None:
    servers = [
        Server(A, (Card(0, "192.168.1.6", "0", "0"),)),
        Server(B, (Card(0, "192.168.3.6", "0", "1"),)),
    ]
    assert dump(hccl.table(servers, "1.2")) == golden("hccl")["1.2.json"]
    parts = [hccl.table([each], "1.2") for each in servers]
    assert hccl.merge(parts).text == golden("hccl")["1.2.json"]


def test_a_super_pod_needs_sdids() -> None:
    with pytest.raises(ValueError, match="device 0: its SDID or super pod is not known"):
        hccl.table([server(A, "0", "29.81.3.1")], "1.2")


def test_hccl_files_are_one_for_each_instance() -> None:
    names = [file.name for file in WRITERS["hccl-1.0"].generate(GUIDE, A)]
    assert names == ["rank_table_10.0.0.18_45.json", "rank_table_10.0.0.18_67.json"]
