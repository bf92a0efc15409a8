"""What only the hosts know, in the specs: the network interface of the plan's address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from pdinfra.planning.compare import compare
from pdinfra.planning.finish import finish
from tests.unit.ascend import CLOUD, cloud, fleet, fleet_facts
from tests.unit.builders import (
    NVIDIA,
    ONE_HOST,
    TWO_HOSTS,
    Groups,
    facts,
    network,
    observed,
    plan,
    specs,
)

AWAY = {"addresses": {"127.0.0.1": "lo", "10.0.0.5": "eth0"}}
"""The planned address is another one: a router's before the host."""


def hosts(of: Plan, **more: Any) -> dict[str, HostFacts]:
    """Return hosts without containers; more: of their network."""
    return {h.name: facts(h, network=network(h, **more)) for h in of.hosts}


def made(seen: Mapping[str, HostFacts], of: Plan) -> dict[str, HostFacts]:
    """Return the hosts with what a finished plan makes of them."""
    return {
        name: mine.model_copy(
            update={"containers": tuple(observed(c) for c in of.host(name).containers)}
        )
        for name, mine in seen.items()
    }


def told(of: Plan, name: str) -> dict[str, str]:
    """Return what an engine is told of interfaces."""
    return {k: v for k, v in specs(of)[name].env.items() if k.endswith("_SOCKET_IFNAME")}


def test_engines_on_nvidia_are_told_the_interface_of_the_address() -> None:
    of = plan(TWO_HOSTS, NVIDIA)
    found = finish(of, hosts(of)).plan
    wanted = {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "=eth0"}
    assert told(found, "prefill-a-0") == told(found, "decode-b-0") == wanted
    assert told(found, "router") == {}


def test_native_engines_on_ascend_are_told_it_too() -> None:
    of = fleet()
    assert told(finish(of, fleet_facts(of)).plan, "decode-b-0") == {
        "GLOO_SOCKET_IFNAME": "eth0",
        "TP_SOCKET_IFNAME": "eth0",
        "HCCL_SOCKET_IFNAME": "=eth0",
    }


def test_each_host_has_its_own() -> None:
    of = plan(TWO_HOSTS, NVIDIA, a={"pd_address": "10.1.0.1"}, b={"pd_address": "10.1.0.2"})
    seen = hosts(of)
    bond = {"addresses": {"10.1.0.2": "bond0.100", "192.0.2.2": "bond0"}}
    seen["b"] = facts(of.host("b"), network=network(of.host("b"), **bond))
    found = finish(of, seen).plan
    assert told(found, "prefill-a-0")["NCCL_SOCKET_IFNAME"] == "=eth0"
    assert told(found, "decode-b-0")["NCCL_SOCKET_IFNAME"] == "=bond0.100"


def test_one_machine_talks_to_itself_over_loopback() -> None:
    of = plan(ONE_HOST, {**NVIDIA, "pd_address": "127.0.0.1"})
    assert told(finish(of, hosts(of, **AWAY)).plan, "prefill-a-0")["GLOO_SOCKET_IFNAME"] == "lo"


def test_address_that_is_a_name_is_looked_up() -> None:
    of = plan(TWO_HOSTS, NVIDIA, a={"pd_address": "gpu-a"})
    found = hosts(of, resolved={"gpu-a": ("192.0.2.9", "10.0.0.5")}, **AWAY)
    assert told(finish(of, found).plan, "prefill-a-0")["GLOO_SOCKET_IFNAME"] == "eth0"
    alone = plan(ONE_HOST, {**NVIDIA, "pd_address": "gpu-a"})
    assert alone.host("a").observe.names == ("gpu-a",)


def test_the_users_own_goes_before() -> None:
    of = plan(ONE_HOST, {**NVIDIA, "pd_env": {"NCCL_SOCKET_IFNAME": "^docker0"}})
    found = told(finish(of, hosts(of)).plan, "prefill-a-0")
    assert found == {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "^docker0"}


@pytest.mark.parametrize("groups", [ONE_HOST, TWO_HOSTS])
def test_cpu_engines_stay_as_they_are(groups: Groups) -> None:
    of = plan(groups)
    assert finish(of, hosts(of)).plan is of


def test_the_vendors_bundle_sees_to_it_itself() -> None:
    of = cloud(every=CLOUD)
    assert finish(of, hosts(of)).plan is of


def test_second_run_changes_nothing() -> None:
    of = plan(TWO_HOSTS, NVIDIA)
    seen = made(hosts(of), finish(of, hosts(of)).plan)
    changes = compare(finish(of, seen), seen, "converge", check=False).changes
    assert {change.action for change in changes} == {"keep"}


def test_address_on_no_interface_leaves_what_runs_as_it_is() -> None:
    of = plan(ONE_HOST, {**NVIDIA, "pd_address": "203.0.113.5"})
    assert finish(of, hosts(of, **AWAY)).plan is of
    seen = made(hosts(of, **AWAY), finish(of, hosts(of)).plan)
    found = finish(of, seen)
    assert told(found.plan, "prefill-a-0")["GLOO_SOCKET_IFNAME"] == "eth0"
    changes = compare(found, seen, "converge", check=False).changes
    assert {change.action for change in changes} == {"keep"}


def test_host_that_was_not_looked_at_is_told_nothing() -> None:
    of = plan(TWO_HOSTS, NVIDIA)
    found = finish(of, {"a": hosts(of)["a"]}).plan
    assert told(found, "prefill-a-0")
    assert told(found, "decode-b-0") == {}
