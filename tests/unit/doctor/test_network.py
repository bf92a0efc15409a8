"""Names, addresses, routes and proxies of hosts that work together."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.doctor.network import interface_checks, network_checks
from pdinfra.model.checks import Check
from pdinfra.model.facts import NetworkFact
from pdinfra.model.plan import Plan
from tests.unit.builders import NVIDIA, TWO_HOSTS, facts, network, plan

A = {"ansible_host": "10.0.0.1"}
B = {"ansible_host": "10.0.0.2"}
BY_HAND = {"pd_manage_hosts": False}


def two(every: dict[str, Any] | None = None, **hosts: dict[str, Any]) -> Plan:
    return plan(TWO_HOSTS, every, **{"a": A, "b": B, **hosts})


def check(name: str, of: Plan, **seen: Any) -> Check:
    """Return one check of host a, whose network is as given."""
    host = of.host("a")
    fact = facts(host, network=network(host, **seen))
    (found,) = (c for c in network_checks(of, host, fact) if c.id == name)
    return found


def test_good_host_has_nothing_but_good_checks() -> None:
    of = two()
    checks = list(network_checks(of, of.host("a"), facts(of.host("a"))))
    assert [(c.id, c.status) for c in checks] == [
        (name, "ok") for name in ("hostname", "address", "route", "proxy")
    ]


def test_service_on_one_machine_is_not_asked_for_a_network() -> None:
    of = plan()
    bare = facts(of.host("a"), network=NetworkFact())
    assert list(network_checks(of, of.host("a"), bare)) == []


def test_own_name_that_leads_to_loopback_fails_where_up_may_not_mend_it() -> None:
    resolved = {"a": ("127.0.1.1",)}
    found = check("hostname", two(BY_HAND), resolved=resolved)
    assert (found.status, found.found) == ("fail", "a → 127.0.1.1")
    assert "127.0.1.1 line of /etc/hosts" in found.fix
    assert check("hostname", two(), resolved=resolved).found == "a → 127.0.1.1: `up` mends it"
    assert check("hostname", two(BY_HAND), resolved={}).found == "a → nothing"


def test_address_that_is_a_name_must_lead_somewhere() -> None:
    of = two(b={"ansible_host": "node2.example"})
    good = {"a": ("10.0.0.1",), "node2.example": ("10.0.0.2",)}
    assert check("names", of, resolved=good).status == "ok"
    found = check("names", of, resolved={**good, "node2.example": ()})
    assert (found.status, found.found) == ("fail", "node2.example → nothing")
    looped = check("names", of, resolved={**good, "node2.example": ("127.0.0.1",)})
    assert looped.found == "node2.example → 127.0.0.1"


def test_address_must_be_the_hosts_own() -> None:
    found = check("address", two(), addresses={"127.0.0.1": "lo", "192.168.1.7": "eth0"})
    assert (found.status, found.found) == ("fail", "10.0.0.1 is none of 192.168.1.7 (eth0)")
    assert "pd_address" in found.fix


@pytest.mark.parametrize("interface", ["docker0", "br-1234", "virbr0"])
def test_address_inside_the_host_is_of_no_use_to_others(interface: str) -> None:
    found = check("address", two(), addresses={"10.0.0.1": interface})
    assert (found.status, found.found) == ("fail", f"10.0.0.1 is on {interface}, inside the host")


def test_host_without_default_route_is_a_warning() -> None:
    found = check("route", two(), default_route="")
    assert (found.status, found.found) == ("warn", "no default route")
    assert "ip route add default" in found.fix


def proxy(*no_proxy: str) -> Check:
    set_ = {"where": "/etc/environment", "url": "http://proxy:3128", "no_proxy": no_proxy}
    return check("proxy", two(), proxies=(set_,))


def test_proxy_that_catches_calls_between_hosts_is_named_with_its_place() -> None:
    found = proxy("10.0.0.1", "localhost")
    assert found.status == "warn"
    assert found.found == "http://proxy:3128 (/etc/environment) catches 10.0.0.2"
    assert found.fix == "add 10.0.0.2 to no_proxy of /etc/environment"


@pytest.mark.parametrize(
    "no_proxy", [("10.0.0.1", "10.0.0.2"), ("10.0.0.0/24",), ("*",), ("x/y", "10.0.0.0/8")]
)
def test_proxy_with_exceptions_is_well(no_proxy: tuple[str, ...]) -> None:
    assert proxy(*no_proxy).status == "ok"


def test_domain_in_no_proxy_excepts_its_names() -> None:
    of = two(a={"ansible_host": "n1.example"}, b={"ansible_host": "n2.example"})
    set_ = {"where": "environment", "url": "http://proxy:3128", "no_proxy": (".example",)}
    resolved = {"a": ("10.0.0.1",), "n1.example": ("10.0.0.1",), "n2.example": ("10.0.0.2",)}
    assert check("proxy", of, proxies=(set_,), resolved=resolved).status == "ok"


def interfaces(of: Plan, **seen: Any) -> list[tuple[str, str, str]]:
    """Return what is said of the interfaces of all hosts; seen: of their networks."""
    hosts = {h.name: facts(h, network=network(h, **seen)) for h in of.hosts}
    return [(c.host, c.status, c.found) for c in interface_checks(of, hosts)]


def test_interface_that_engines_are_told_is_that_of_the_address() -> None:
    assert interfaces(two(NVIDIA)) == [
        ("a", "ok", "10.0.0.1 on eth0"),
        ("b", "ok", "10.0.0.2 on eth0"),
    ]
    assert interfaces(two()) == [], "CPU engines are told none"


def test_address_on_no_interface_is_said_on_one_machine_too() -> None:
    floating = plan(every={**NVIDIA, "pd_address": "203.0.113.5"})
    names = "GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME"
    told = f"no interface has 203.0.113.5: {names} not set, or left as they are"
    assert interfaces(floating, addresses={"10.0.0.1": "eth0"}) == [("a", "warn", told)]


def test_interface_that_the_user_gives_is_the_users_to_know() -> None:
    env = {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "eth0"}
    floating = plan(every={**NVIDIA, "pd_address": "203.0.113.5", "pd_env": env})
    assert interfaces(floating, addresses={"10.0.0.1": "eth0"}) == []
