"""A host's network as the facts module brings it. The texts are captured from real hosts."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.facts import NetworkFact
from pdinfra.reading.network import network_fact, port_set

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth1\t00000000\t0100000A\t0003\t0\t0\t200\t00000000\t0\t0\t0
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
IF_INET6 = "00000000000000000000000000000001 01 80 10 80       lo\n"


def read(files: dict[str, str] | None = None, **more: Any) -> NetworkFact:
    return network_fact({"files": files or {}, "docker": {}, **more})


def test_default_route_is_the_one_the_kernel_prefers() -> None:
    assert read({"/proc/net/route": ROUTES}).default_route == "eth0"
    without = "\n".join(line for line in ROUTES.splitlines() if "\t00000000\t01" not in line)
    assert read({"/proc/net/route": without}).default_route == ""


def test_addresses_of_both_families_have_their_interface() -> None:
    found = read({"/proc/net/if_inet6": IF_INET6}, addresses=[["eth0", "10.0.0.1"]])
    assert found.addresses == {"10.0.0.1": "eth0", "::1": "lo"}


def test_name_without_an_answer_has_no_addresses() -> None:
    found = read(resolved={"a": ["10.0.0.1"], "b": [], "slow": None})
    assert found.resolved == {"a": ("10.0.0.1",), "b": (), "slow": ()}


def test_port_ranges_of_the_kernel() -> None:
    files = {
        "/proc/sys/net/ipv4/ip_local_port_range": "1024\t65000\n",
        "/proc/sys/net/ipv4/ip_local_reserved_ports": "8080,9148-9150\n",
    }
    found = read(files)
    assert found.ephemeral == (1024, 65000)
    assert found.reserved == {8080, 9148, 9149, 9150}
    assert found.kept_reserved == frozenset()


def test_ports_that_pdinfra_itself_reserved_are_known_by_its_file() -> None:
    text = "# by hand\nnet.ipv4.ip_local_reserved_ports=40000-40001\n"
    assert read({"/etc/sysctl.d/90-pdinfra.conf": text}).kept_reserved == {40000, 40001}


@pytest.mark.parametrize("text", ["", "\n"])
def test_nothing_is_reserved(text: str) -> None:
    assert port_set(text) == frozenset()


def test_proxies_are_found_in_all_three_places() -> None:
    proxies = {
        "environment": {"no_proxy": "localhost"},
        "/etc/environment": {"http_proxy": "http://p:1", "no_proxy": "10.0.0.1, .example"},
    }
    docker = {"info": {"HttpProxy": "http://d:1", "HttpsProxy": "", "NoProxy": ""}}
    found = {p.where: p for p in read(proxies=proxies, docker=docker).proxies}
    assert set(found) == {"/etc/environment", "Docker's daemon"}
    assert found["/etc/environment"].no_proxy == ("10.0.0.1", ".example")
    assert found["Docker's daemon"].url == "http://d:1"


@pytest.mark.parametrize(("text", "active"), [("ENABLED=yes\n", True), ("ENABLED=no\n", False)])
def test_ufw_counts_only_when_enabled(text: str, active: bool) -> None:
    assert read({"/etc/ufw/ufw.conf": f"# ufw\n{text}"}).ufw is active


def test_host_that_shows_nothing_can_be_read() -> None:
    assert read() == NetworkFact()


@pytest.mark.parametrize(
    ("daemons", "in_container", "kept"),
    [
        (["chronyd"], False, True),
        (["firewalld"], False, False),
        ([], True, True),
        ([], False, False),
    ],
)
def test_what_keeps_time(daemons: list[str], in_container: bool, kept: bool) -> None:
    assert read(daemons=daemons, in_container=in_container).keeps_time is kept
