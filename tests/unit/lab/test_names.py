"""Names, addresses and ports: derived, never colliding."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import islice
from pathlib import Path

import pytest

from pdinfra.lab import names
from pdinfra.lab.names import Lab

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""


def test_subnet_is_the_names_own_and_the_same_every_time() -> None:
    one, two = (names.free_subnet(name, []) for name in ("lab", "t2"))
    assert one == names.free_subnet("lab", [])
    assert one is not None
    assert two is not None
    assert not one.overlaps(two)
    assert one.is_private
    assert one.prefixlen == 24


def test_taken_subnet_is_passed_over() -> None:
    first = names.free_subnet("lab", [])
    assert first is not None
    second = names.free_subnet("lab", [first.supernet(new_prefix=16)])
    assert second is not None
    assert not second.overlaps(first.supernet(new_prefix=16))


def test_no_subnet_where_all_are_taken() -> None:
    assert names.free_subnet("lab", [IPv4Network("10.0.0.0/8")]) is None


def test_addresses_never_meet_and_stay_within_the_subnet() -> None:
    subnet = IPv4Network("10.130.7.0/24")
    used = [names.address(subnet, node) for node in names.nodes(names.MAX_HOSTS)]
    used += [names.gateway(subnet), names.registry_address(subnet)]
    assert len(set(used)) == names.MAX_HOSTS + 2
    assert all(address in subnet for address in used)
    assert str(names.address(subnet, "node1")) == "10.130.7.11"


def test_ports_begin_at_the_names_own_and_try_all() -> None:
    assert next(names.ports("t1")) != next(names.ports("t2"))
    every = list(names.ports("t1"))
    assert len(set(every)) == len(every) > 100
    assert list(islice(names.ports("t1"), 5)) == every[:5]


def test_routes_of_the_machine_without_the_default_route() -> None:
    assert names.routes(ROUTES) == [IPv4Network("192.0.2.0/24"), IPv4Network("172.17.0.0/16")]


def owned(lab: Lab) -> dict[str, set[str]]:
    """Return all names of a lab by kind; names of different kinds never meet."""
    nodes = names.nodes(names.MAX_HOSTS)
    return {
        "networks": {lab.network},
        "containers": {lab.registry, *map(lab.container, nodes)},
        "volumes": set(map(lab.volume, nodes)),
        "folders": {str(lab.home), str(lab.inventory)},
    }


def test_two_labs_share_no_name() -> None:
    one, two = (owned(Lab(name, Path("/x"))) for name in ("lab", "lab-node1"))
    for kind in one:
        assert not one[kind] & two[kind]
    assert names.BLOBS not in one["volumes"] | two["volumes"]


def test_default_lab_has_the_short_inventory() -> None:
    assert Lab("lab", Path("/x")).inventory == Path("/x/inventories/lab")
    assert Lab("t1", Path("/x")).inventory == Path("/x/inventories/lab-t1")


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a/b", "a" * 21, "ä"])
def test_names_that_no_lab_can_have(name: str) -> None:
    assert not names.valid_name(name)


@pytest.mark.parametrize("name", ["a", "lab", "try-1", "a" * 20])
def test_names_that_a_lab_can_have(name: str) -> None:
    assert names.valid_name(name)


def test_folder_that_hosts_share_is_the_labs_own() -> None:
    assert Lab("t1").shared != Lab("t2").shared
    assert Lab("t1").shared not in {Lab("t1").volume(node) for node in names.nodes(3)}
