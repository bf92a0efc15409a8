"""What is refused before a table is written."""

from __future__ import annotations

from pdinfra.ranktable.topology import Card, Server, Topology, problems
from tests.unit.ranktable.topologies import GUIDE, A, server


def lines(topology: Topology) -> list[str]:
    return [str(problem) for problem in problems(topology)]


def test_the_guides_service_is_well() -> None:
    assert lines(GUIDE) == []


def test_a_card_in_two_instances() -> None:
    topology = Topology((server(A, "45", "29.81.3.1"),), (server(A, "56", "29.81.3.1"),))
    assert lines(topology) == [
        "10.0.0.18: device 5: it is used 2 times: prefill 4,5 and decode 5,6. "
        "Fix: give each instance devices of its own"
    ]


def test_sizes_within_a_role() -> None:
    topology = Topology(
        (server(A, "01", "29.81.3.1"), server(A, "2", "29.81.3.1")), (server(A, "4", "29.81.3.1"),)
    )
    assert lines(topology) == [
        "10.0.0.18: prefill instance on devices 2: 1 cards, the other prefill instances have 2. "
        "Fix: give every prefill instance as many cards: its tensor-parallel size"
    ]


def test_addresses() -> None:
    wrong = Topology(
        (Server("127.0.1.1", (Card(0, "127.0.0.1"), Card(1, ""))),),
        (Server(A, (Card(2, "29.81.3.1"), Card(3, "29.81.3.1"))),),
        "localhost",
    )
    found = lines(wrong)
    address = "Fix: name the host's address that the other hosts reach, e.g. --ip 10.0.0.18"
    assert found == [
        f"127.0.1.1: address: only the host itself reaches it. {address}",
        f"localhost: address: only the host itself reaches it. {address}",
        "127.0.1.1: device 0: its address 127.0.0.1 is the loopback. "
        "Fix: `hccn_tool -i 0 -ip -g` must name it",
        "127.0.1.1: device 1: its address '' is not an IPv4 address. "
        "Fix: `hccn_tool -i 1 -ip -g` must name it",
        "10.0.0.18: device address 29.81.3.1: several devices have it: "
        "10.0.0.18 device 2, 10.0.0.18 device 3. "
        "Fix: give each device one of its own: hccn_tool -i N -ip -s address A netmask M",
    ]


def test_two_instances_with_one_file_name() -> None:
    twelve = Server(A, (Card(12, "29.81.3.112"),))
    topology = Topology((server(A, "12", "29.81.3.1"),), (twelve,))
    assert lines(topology) == [
        "10.0.0.18: local_ranktable_10.0.0.18_12.json: devices 1,2 and 12 would share this file "
        "name. Fix: choose other devices: the vendor's file names join their ids"
    ]
