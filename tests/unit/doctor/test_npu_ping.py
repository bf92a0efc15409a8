"""Who pings whom over the NPU network, and what the answers mean."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.doctor.npu_ping import checks, targets
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from tests.unit.ascend import fleet, fleet_facts, network
from tests.unit.builders import ASCEND, plan

GOOD = "recv seq=2,time=0.114000ms\n3 packets transmitted, 3 received, 0.00% packet loss\n"
HCCS = (
    "This pkt ping success!\n3 packets transmitted, 3 received, 0.00% packets loss\nmax time=0.1ms"
)
LOST = "recv time out seq=0\n3 packets transmitted, 0 received, 100.00% packet loss\n"
LOSSY = "recv time out seq=2\n3 packets transmitted, 2 received, 33.33% packet loss\n"
BUSY = "hccn_tool is busy, please try again.\n"

Bad = dict[tuple[int, str], str]


def pinged(of: Plan, seen: dict[str, HostFacts], bad: Bad, good: str = GOOD) -> list[Check]:
    """Ping as planned; ``bad``: what some pairs of device and address print instead."""
    results = {
        host: [{**t, "rc": 0, "stdout": bad.get((t["device"], t["address"]), good)} for t in wanted]
        for host, wanted in targets(of, seen).items()
    }
    return checks(of, seen, results)


def one(bad: Bad) -> Check:
    (found,) = pinged(fleet(), fleet_facts(fleet()), bad)
    return found


def test_every_prefill_device_pings_every_decode_device_of_the_other_hosts() -> None:
    assert targets(fleet(), fleet_facts(fleet())) == {
        "a": [
            {"device": 0, "address": "10.20.2.1"},
            {"device": 0, "address": "10.20.2.2"},
            {"device": 1, "address": "10.20.2.1"},
            {"device": 1, "address": "10.20.2.2"},
        ]
    }


def test_each_pair_of_hosts_has_its_own_check() -> None:
    groups = {"prefill": ["a", "b"], "decode": ["c", "d"], "router": ["a"]}
    of = plan(groups, ASCEND)
    found = pinged(of, fleet_facts(of), {(0, "10.20.3.1"): LOST})
    assert {c.host for c in found} == {"a → c", "a → d", "b → c", "b → d"}
    assert {c.host for c in found if c.status == "fail"} == {"a → c", "b → c"}


def test_devices_of_one_host_are_not_pinged() -> None:
    of = plan({"prefill": ["a"], "decode": ["a"], "router": ["a"]}, ASCEND)
    assert targets(of, fleet_facts(of)) == {}


@pytest.mark.parametrize("change", [{"address": None}, {"link": "DOWN"}, {"error": "busy"}])
def test_device_that_cannot_answer_for_a_known_reason_is_left_out(change: dict[str, Any]) -> None:
    nets = {0: network(2, 0), 1: network(2, 1, **change)}
    wanted = targets(fleet(), fleet_facts(fleet(), b={"networks": nets}))
    assert {target["address"] for target in wanted["a"]} == {"10.20.2.1"}
    nets = {0: network(1, 0), 1: network(1, 1, **change)}
    wanted = targets(fleet(), fleet_facts(fleet(), a={"networks": nets}))
    assert {target["device"] for target in wanted["a"]} == {0}


def test_host_without_a_driver_or_without_facts_is_left_out() -> None:
    assert targets(fleet(), fleet_facts(fleet(), b={"state": "unloaded"})) == {}
    seen = fleet_facts(fleet())
    del seen["b"]
    assert targets(fleet(), seen) == {}


def test_answers_of_all_are_one_good_check() -> None:
    found = one({})
    assert (found.id, found.host, found.status) == ("npu-ping", "a → b", "ok")
    assert found.found == "4 of 4 device pairs answer"


def test_wording_of_a3_is_understood() -> None:
    both = {
        name: {
            "generation": "a3",
            "networks": {n: network(i, n, vnic="UP", link="DOWN") for n in (0, 1)},
        }
        for i, name in ((1, "a"), (2, "b"))
    }
    (found,) = pinged(fleet(), fleet_facts(fleet(), **both), {}, HCCS)
    assert found.status == "ok"
    (found,) = pinged(fleet(), fleet_facts(fleet(), **both), {(1, "10.20.2.1"): LOST}, HCCS)
    assert "hccn_tool -i 1 -hccs_ping -g address 10.20.2.1" in found.fix


def test_exactly_the_pairs_that_fail_are_named() -> None:
    found = one({(1, "10.20.2.1"): LOST})
    assert (found.host, found.status) == ("a → b", "fail")
    assert found.found == "1 of 4 device pairs do not: 1 → 0 (0 of 3 packets came back)"
    assert "on a: `hccn_tool -i 1 -ping -g address 10.20.2.1`" in found.fix


def test_lost_packet_is_a_failure() -> None:
    assert "(2 of 3 packets came back)" in one({(0, "10.20.2.2"): LOSSY}).found


@pytest.mark.parametrize(
    ("said", "words"),
    [(BUSY, "hccn_tool is busy"), ("", "ended with 0"), ("Command execute failed!\n", "execute")],
)
def test_tool_that_fails_is_told(said: str, words: str) -> None:
    assert words in one({(0, "10.20.2.1"): said}).found


def test_hosts_that_are_cabled_directly_are_recognised() -> None:
    found = one({(0, "10.20.2.2"): LOST, (1, "10.20.2.1"): LOST})
    assert "0 → 1, 1 → 0" in found.found
    assert "direct cables" in found.fix


def test_hosts_that_were_not_pinged_have_no_check() -> None:
    assert checks(fleet(), fleet_facts(fleet()), {}) == []
