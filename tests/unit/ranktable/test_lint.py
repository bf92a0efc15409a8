"""Each rule by an example, with its whole line."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from pdinfra.ranktable import ascendcloud, hccl, vllm_ascend
from pdinfra.ranktable.dump import dump
from pdinfra.ranktable.findings import AGAIN, Known, Stat
from pdinfra.ranktable.lint import lint
from pdinfra.ranktable.read import Table, read
from tests.unit.ranktable.topologies import GUIDE, HOSTS, A, B, server

GLOBAL = "global_ranktable_10.0.0.18.json"
PREFILL = "local_ranktable_10.0.0.18_45.json"
DECODE = "local_ranktable_10.0.0.18_67.json"
FIRST = "$.server_group_list[1].server_list[0]"
TOGETHER = "write local and global tables together: gen, merge, then copy both"
ONE_ENTRY = "give --api-server to `ranktable gen` on exactly one host"

Change = Callable[[Any], Any]


def guide(name: str = "", change: Change = lambda document: None) -> list[Table]:
    """Return the guide's 1p1d, one of its tables changed."""
    tables = []
    for file in ascendcloud.generate(GUIDE, A):
        document = json.loads(file.text)
        if file.name == name:
            change(document)
        tables.append(read(file.name, dump(document)))
    return tables


def lines(tables: list[Table], known: Known | None = None) -> list[str]:
    """Return lint's lines."""
    return [str(finding) for finding in lint(tables, known)]


def set_in(*path: str | int, to: object) -> Change:
    """Return what sets one place of a document."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


GROUP1 = ("server_group_list", 1)
SERVER1 = (*GROUP1, "server_list", 0)
CARD1 = (*SERVER1, "device", 0)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param(
            set_in("status", to="initializing"),
            f'{GLOBAL}: $.status: found "initializing", expected "completed". Fix: {AGAIN}',
            id="status",
        ),
        pytest.param(
            set_in(*CARD1, "rank_id", to=0),
            f"{GLOBAL}: {FIRST}.device[0].rank_id: found 0, "
            f"expected a whole number as a text. Fix: {AGAIN}",
            id="not a text",
        ),
        pytest.param(
            set_in(*CARD1, "rank_id", to="1"),
            f'{GLOBAL}: {FIRST}.device[0].rank_id: found "1", '
            f'expected "0": ranks count from 0 in each instance. Fix: {AGAIN}',
            id="rank",
        ),
        pytest.param(
            set_in(*GROUP1, "server_count", to="2"),
            f'{GLOBAL}: $.server_group_list[1].server_count: found "2", '
            f'expected "1": there are 1 servers. Fix: {AGAIN}',
            id="count",
        ),
        pytest.param(
            set_in(*GROUP1, "server_count", to=1),
            f"{GLOBAL}: $.server_group_list[1].server_count: found 1, "
            f"expected a whole number as a text. Fix: {AGAIN}",
            id="count as merge-all writes it",
        ),
        pytest.param(
            set_in(*CARD1, "device_ip", to="127.0.0.1"),
            f'{GLOBAL}: {FIRST}.device[0].device_ip: found "127.0.0.1", the loopback, '
            "expected an IPv4 address of the NPUs' network. "
            "Fix: set the device's address with hccn_tool, then write the table again",
            id="device on the loopback",
        ),
        pytest.param(
            set_in(*CARD1, "device_ip", to=""),
            f'{GLOBAL}: {FIRST}.device[0].device_ip: found "", expected a text. Fix: {AGAIN}',
            id="unset",
        ),
        pytest.param(
            set_in(*CARD1, "device_ip", to="29.81.3.56"),
            f"{GLOBAL}: $.server_group_list[2].server_list[0].device[0].device_ip: "
            f'found "29.81.3.56", as at {FIRST}.device[0], expected each address once. '
            "Fix: give each instance cards of its own, then write the table again",
            id="one address twice",
        ),
        pytest.param(
            set_in(*CARD1, "device_id", to="6"),
            f"{GLOBAL}: $.server_group_list[2].server_list[0].device[0].device_id: "
            f"found device 6 of 10.0.0.18, as at {FIRST}.device[0], expected each device once. "
            "Fix: give each instance cards of its own, then write the table again",
            id="overlapping cards",
        ),
        pytest.param(
            set_in(*SERVER1, "server_ip", to="127.0.1.1"),
            f'{GLOBAL}: {FIRST}.server_ip: found "127.0.1.1", the loopback, '
            "expected the host's address. "
            "Fix: write it again with `ranktable gen --ip` and the address that other hosts reach",
            id="host on the loopback",
        ),
        pytest.param(
            lambda document: document["server_group_list"].pop(0),
            f'{GLOBAL}: $.server_group_list: found no group "0", '
            f'expected three groups; "0" is the scheduler. Fix: {ONE_ENTRY}',
            id="no scheduler",
        ),
        pytest.param(
            lambda document: document["server_group_list"][0]["server_list"].append(
                {"server_id": B, "server_ip": B}
            ),
            f"{GLOBAL}: $.server_group_list[0].server_list[1]: "
            f"found 2 schedulers ({A}, {B}), expected exactly one. Fix: {ONE_ENTRY}",
            id="two schedulers",
        ),
        pytest.param(
            lambda document: document["server_group_list"][1]["server_list"][0].pop("device"),
            f"{GLOBAL}: {FIRST}.device: found no device, expected the instance's devices. "
            f"Fix: {AGAIN}",
            id="no device",
        ),
        pytest.param(
            set_in("server_group_list", 0, "server_list", 0, "predict_port", to="1025"),
            f"{GLOBAL}: $: found MindIE's global table, expected a rank table. Fix: {AGAIN}",
            id="MindIE's",
        ),
    ],
)
def test_global_table(change: Change, line: str) -> None:
    assert line in lines(guide(GLOBAL, change))


def test_not_json_and_no_rank_table() -> None:
    tables = [read("a.json", "{"), read("b.json", "[]")]
    assert lines(tables, Known(format="ascendcloud")) == [
        "a.json: $: found no JSON (Expecting property name enclosed in double quotes: line 1 "
        f"column 2 (char 1)), expected JSON. Fix: {AGAIN}",
        f"b.json: $: found no rank table, expected ascendcloud. Fix: {AGAIN}",
    ]


def test_another_format() -> None:
    tables = [read("ranktable.json", dump(vllm_ascend.table(HOSTS)))]
    assert lines(tables, Known(format="ascendcloud")) == [
        "ranktable.json: $: found vllm-ascend, expected ascendcloud. "
        "Fix: write it again with `ranktable gen --format ascendcloud`"
    ]


def test_edited_by_hand() -> None:
    (whole, *_) = guide()
    other = json.dumps(whole.document, indent=2)
    assert [each.rule for each in lint([read(whole.file, other)])] == ["edited"]
    turned = dict(reversed(whole.document.items()))
    assert [each.rule for each in lint([read(whole.file, dump(turned))])] == ["edited"]
    assert lint([read(whole.file, whole.text + "\n")]) == []


def test_local_differs_from_global() -> None:
    changed = set_in("server_list", 0, "device", 1, "device_ip", to="29.81.3.99")
    assert lines(guide(PREFILL, changed)) == [
        f'{PREFILL}: $.server_list[0]: found device 5: device_ip "29.81.3.99", '
        f'expected device 5: device_ip "29.81.3.23", as {GLOBAL} at {FIRST}. Fix: {TOGETHER}'
    ]


def test_local_with_cards_in_another_order() -> None:
    def turn(document: Any) -> None:
        devices = document["server_list"][0]["device"]
        devices.reverse()
        for rank, device in enumerate(devices):
            device["rank_id"] = str(rank)

    assert (
        f"{PREFILL}: $.server_list[0]: found devices 5,4, "
        f"expected devices 4,5, as {GLOBAL} at {FIRST}. Fix: {TOGETHER}"
    ) in lines(guide(PREFILL, turn))


def test_local_table_that_is_not_there() -> None:
    assert lines([each for each in guide() if each.file != DECODE]) == [
        f"{GLOBAL}: $.server_group_list[2].server_list[0]: "
        "found no local_ranktable_10.0.0.18_67.json beside it, "
        f"expected a local table for each instance and the scheduler. Fix: {AGAIN}"
    ]


def test_the_guides_misspelt_file_name() -> None:
    (_, local, *_) = guide()
    assert lines([read("local_rank_table_10.0.0.18_45.json", local.text)]) == [
        "local_rank_table_10.0.0.18_45.json: $: "
        f"found file name local_rank_table_10.0.0.18_45.json, expected {PREFILL}. Fix: rename it"
    ]


def test_unequal_sizes_of_decode_alone() -> None:
    topology = type(GUIDE)(
        GUIDE.prefill, (*GUIDE.decode, server(A, "0", "29.81.3.1")), GUIDE.scheduler
    )
    table = read(GLOBAL, dump(ascendcloud.global_table(topology)))
    assert lines([table]) == [
        f"{GLOBAL}: $.server_group_list[2].server_list[1].device: found 1 devices, expected 2, "
        "as the first decode instance has. "
        "Fix: give every decode instance the same tensor-parallel size"
    ]


def test_a_merged_table_that_is_stale() -> None:
    parts = [ascendcloud.generate(HOSTS, host)[0] for host in (A, B)]
    merged = ascendcloud.merge([json.loads(part.text) for part in parts])
    later = parts[1].text.replace("29.81.4.10", "29.81.4.99")
    tables = [read(parts[0].name, parts[0].text), read(parts[1].name, later)]
    assert lines([*tables, read(merged.name, merged.text)]) == [
        "global_ranktable_10.0.0.19.json: $.server_group_list[0].server_list: "
        "found servers that global_ranktable_merge.json does not have so, "
        "expected the same servers, next to each other, in this order. "
        "Fix: one of them is stale or edited: gen on that host and merge again"
    ]


def test_copies_of_hosts_differ() -> None:
    merged = dump(ascendcloud.global_table(HOSTS))
    other = merged.replace("29.81.4.10", "29.81.4.99")
    name = "global_ranktable_merge.json"
    fix = "copy one table to every host, then restart what read the other one"
    assert lines([read(f"a/{name}", merged), read(f"b/{name}", other)]) == [
        f"b/{name}: $: found other content than a/{name}, "
        f"expected the same on every host. Fix: {fix}"
    ]
    digests = {A: sha256(merged.encode()).hexdigest(), B: "0" * 64}
    assert lines([read(name, merged)], Known(copies=digests)) == [
        f"{name}: $: found another copy on {B}, expected the same on every host. Fix: {fix}"
    ]


LIVE = {A: {4: "29.81.3.22", 5: "29.81.3.99", 6: "29.81.3.56"}}
PORTS = {"10.0.0.18_45": 8088, "10.0.0.18_67": 8089}
ORDER = "put NODE_PORTS in the table's order, prefill first"


@pytest.mark.parametrize(
    ("known", "found"),
    [
        pytest.param(
            Known(live=LIVE),
            [
                f'{GLOBAL}: {FIRST}.device[1].device_ip: found "29.81.3.23", stale, '
                f'expected "29.81.3.99", the address of device 5 now. Fix: {AGAIN}',
                f"{GLOBAL}: $.server_group_list[2].server_list[0].device[1].device_ip: "
                "found device 7, which 10.0.0.18 does not have, "
                "expected a device with an address. "
                "Fix: use devices that the host has, with an address, then write it again",
            ],
            id="live addresses",
        ),
        pytest.param(
            Known(node_ports=("8089", "8088"), ports=PORTS),
            [
                f"{GLOBAL}: {FIRST}: found 8089 for it in NODE_PORTS, "
                f"expected 8088: the --port of prefill 10.0.0.18_45. Fix: {ORDER}",
                f"{GLOBAL}: $.server_group_list[2].server_list[0]: "
                "found 8088 for it in NODE_PORTS, "
                f"expected 8089: the --port of decode 10.0.0.18_67. Fix: {ORDER}",
            ],
            id="order of ports",
        ),
        pytest.param(
            Known(node_ports=("8088",)),
            [
                f"{GLOBAL}: $.server_group_list: found 2 instances, NODE_PORTS has 1 ports, "
                "expected as many ports as instances. Fix: give NODE_PORTS one port for each "
                "instance, prefill first, in the table's order"
            ],
            id="number of ports",
        ),
        pytest.param(
            Known(ports=dict.fromkeys(PORTS, 8088)),
            [
                f"{GLOBAL}: $.server_group_list[2].server_list[0]: found port 8088 of 10.0.0.18 "
                "for prefill 10.0.0.18_45 and decode 10.0.0.18_67, "
                "expected a port of its own for each. Fix: start one of them with another --port"
            ],
            id="prefill and decode on one port",
        ),
        pytest.param(
            Known(node_ports=("8088", "8088")),
            [
                f"{GLOBAL}: $.server_group_list: found port 8088 2 times for 10.0.0.18 in "
                "NODE_PORTS, expected each port once on a host. "
                "Fix: start each instance of a host with another --port"
            ],
            id="one port twice",
        ),
        pytest.param(
            Known(tensor_parallel={"decode": 4}),
            [
                f"{GLOBAL}: $.server_group_list[2].server_list[0]: found 2 devices, "
                "expected 4: --tensor-parallel-size. "
                "Fix: give decode instances 4 devices, or that tensor-parallel size"
            ],
            id="tensor-parallel size",
        ),
        pytest.param(
            Known(containers={"10.0.0.18_45": (4, 5), "10.0.0.18_67": (6,)}),
            [
                f"{GLOBAL}: $.server_group_list[2].server_list[0]: found devices 6,7, "
                "expected 6: the container's /dev/davinci*. "
                "Fix: start the container with exactly the table's devices"
            ],
            id="container's devices",
        ),
        pytest.param(
            Known(hosts=frozenset({B})),
            [
                f'{GLOBAL}: $.server_group_list[{group}].server_list[0]: found "10.0.0.18", '
                "expected an address of a host. Fix: write it again with `ranktable gen --ip`"
                for group in range(3)
            ],
            id="no host of ours",
        ),
        pytest.param(
            Known(stats={GLOBAL: Stat(0o600, 0, 0, 5.0)}, reader=(1000, 1000), network_changed=9.0),
            [
                f"{GLOBAL}: $: found mode 0600 of user 0, expected readable for user 1000. "
                f"Fix: chmod 0644 {GLOBAL}",
                f"{GLOBAL}: $: found older than the last change of a device's address, "
                f"expected newer. Fix: {AGAIN}",
            ],
            id="file",
        ),
    ],
)
def test_against_what_is_known_elsewhere(known: Known, found: list[str]) -> None:
    assert lines(guide()[:1], known) == found


def test_everything_at_once() -> None:
    def spoil(document: Any) -> None:
        document["status"] = "initializing"
        document["server_group_list"][1]["server_count"] = "7"
        document["server_group_list"][2]["server_list"][0]["device"][0]["device_ip"] = "x"

    rules = {each.rule for each in lint(guide(GLOBAL, spoil))}
    assert rules == {"shape", "count", "device-ip", "local"}


def test_hccl_ranks_and_pods() -> None:
    table = hccl.table([server(A, "01", "29.81.3.1"), server(B, "01", "29.81.4.1")], "1.0")
    ranks = [device for each in table["server_list"] for device in each["device"]]
    ranks[1]["rank_id"], ranks[2]["rank_id"] = "2", "1"
    assert lines([read("t.json", dump(table))]) == [
        f"t.json: $.server_list[{number}].device: found ranks {found}, "
        "expected ranks without a gap: those of other servers are not between them. "
        f"Fix: {AGAIN}"
        for number, found in enumerate(["0, 2", "1, 3"])
    ]
    ranks[2]["rank_id"] = "2"
    assert 'rank_id: found "2", as at' not in lines([read("t.json", dump(table))])[0]
    assert "found 2, as at $.server_list[0].device[1].rank_id" in "".join(
        lines([read("t.json", dump(table))])
    )
