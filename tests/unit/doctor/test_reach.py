"""What the probes found becomes checks of pairs of hosts, with the command that opens the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdinfra.doctor.reach import checksum_checks, reach_checks
from pdinfra.model.checks import Check
from pdinfra.planning.reach import links
from tests.unit.builders import TWO_HOSTS, facts, network, plan

PLAN = plan(TWO_HOSTS, a={"ansible_host": "10.0.0.1"}, b={"ansible_host": "10.0.0.2"})
GOOD = {"a": {"10.0.0.2:8200": "open"}, "b": {"10.0.0.1:5600": "open"}}


def judged(
    connects: Mapping[str, Mapping[str, str]],
    shut: Mapping[str, Mapping[str, str]] | None = None,
    without: str = "",
    **seen: Any,
) -> dict[tuple[str, str], Check]:
    """Return the checks by id and pair; ``seen`` is about every host's network."""
    looks = {
        host.name: facts(host, network=network(host, **seen))
        for host in PLAN.hosts
        if host.name != without
    }
    found = reach_checks(PLAN, links(PLAN), connects, shut or {}, looks)
    return {(check.id, check.host): check for check in found}


def test_one_check_for_each_pair_and_purpose() -> None:
    found = judged(GOOD)
    assert {key: check.status for key, check in found.items()} == {
        ("reach-api", "a → b"): "ok",
        ("reach-kv", "b → a"): "ok",
    }


def test_connection_that_is_dropped_names_port_owner_and_the_rule_to_add() -> None:
    found = judged({**GOOD, "b": {"10.0.0.1:5600": "timed out"}})
    bad = found["reach-kv", "b → a"]
    assert (bad.status, bad.found) == ("fail", "5600 (prefill-a-0) timed out")
    assert bad.expected == "connections to 5600 of 10.0.0.1"
    assert bad.fix.startswith(
        "on a: `iptables -I INPUT -p tcp -s 10.0.0.2 -m multiport --dports 56"
    )
    assert found["reach-api", "a → b"].status == "ok"


def test_fix_speaks_to_the_firewall_that_the_host_has() -> None:
    refused = {**GOOD, "a": {"10.0.0.2:8200": "refused"}}
    firewalld = judged(refused, daemons=("firewalld",))["reach-api", "a → b"]
    assert "firewall-cmd --permanent --add-rich-rule" in firewalld.fix
    ufw = judged(refused, ufw=True)["reach-api", "a → b"]
    assert ufw.fix == "on b: `ufw allow from 10.0.0.1 to any port 8200 proto tcp`"


def test_port_that_could_not_be_opened_says_nothing_about_a_firewall() -> None:
    refused = {**GOOD, "a": {"10.0.0.2:8200": "refused"}}
    shut = {"b": {"10.0.0.2:8200": "Cannot assign requested address"}}
    assert ("reach-api", "a → b") not in judged(refused, shut)


def test_hosts_that_cannot_be_looked_at_are_not_blamed_on_a_firewall() -> None:
    assert judged({"b": GOOD["b"]}, without="a") == {}


def test_file_of_other_content_is_named_with_the_host_that_has_it_right() -> None:
    good = {"config.json": "c" * 64, "model.safetensors": "1" * 64}
    found = {
        check.host: check
        for check in checksum_checks(
            {"a": good, "b": {**good, "model.safetensors": "2" * 64}, "c": good}
        )
    }
    assert [host for host, check in found.items() if check.status == "fail"] == ["b"]
    assert found["b"].found == "model.safetensors is 222222222222"
    assert found["b"].expected == "model.safetensors is 111111111111, as on a"
    assert found["b"].fix == "copy model.safetensors anew from a to b"


def test_checksums_of_one_host_alone_tell_nothing() -> None:
    assert list(checksum_checks({"a": {"x": "1"}, "b": {}})) == []
