"""The inventory that a lab writes: hosts are added, nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pdinfra.lab import inventory
from pdinfra.lab.names import Lab

LAB = Lab("t1", Path("/x"))


def addresses(count: int) -> dict[str, str]:
    return {f"node{i}": f"10.1.2.{10 + i}" for i in range(1, count + 1)}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"node1": ["router", "prefill", "decode"]}),
        (2, {"node1": ["router", "prefill"], "node2": ["decode"]}),
        (3, {"node1": ["router"], "node2": ["prefill"], "node3": ["decode"]}),
        (
            4,
            {"node1": ["router"], "node2": ["prefill"], "node3": ["decode"], "node4": ["decode"]},
        ),
    ],
)
def test_groups_of_a_new_inventory(count: int, expected: dict[str, list[str]]) -> None:
    text = inventory.hosts(LAB, addresses(count), None)
    assert inventory.groups(text) == expected
    hosts = yaml.safe_load(text)["all"]["hosts"]
    assert {name: host["ansible_host"] for name, host in hosts.items()} == addresses(count)


def test_hosts_that_come_later_decode() -> None:
    text = inventory.hosts(LAB, addresses(4), inventory.hosts(LAB, addresses(2), None))
    assert inventory.groups(text) == {
        "node1": ["router", "prefill"],
        "node2": ["decode"],
        "node3": ["decode"],
        "node4": ["decode"],
    }


def test_what_the_user_changed_stays_when_a_host_is_added() -> None:
    tree = yaml.safe_load(inventory.hosts(LAB, addresses(2), None))
    tree["all"]["hosts"]["node2"]["pd_address"] = "10.9.9.9"
    tree["all"]["children"]["prefill"]["hosts"]["node2"] = None
    del tree["all"]["children"]["decode"]
    tree["all"]["children"]["rack"] = {"hosts": {"node1": None}}
    text = inventory.hosts(LAB, addresses(3), yaml.safe_dump(tree, sort_keys=False))
    assert yaml.safe_load(text)["all"]["hosts"]["node2"]["pd_address"] == "10.9.9.9"
    assert inventory.groups(text) == {
        "node1": ["router", "prefill", "rack"],
        "node2": ["prefill"],
        "node3": ["decode"],
    }


def test_a_file_that_lacks_no_host_is_not_rewritten() -> None:
    edited = "# mine\n" + inventory.hosts(LAB, addresses(2), None)
    assert inventory.hosts(LAB, addresses(2), edited) == edited


@pytest.mark.parametrize("text", ["- a\n", "all: [\n", "all: {hosts: 3}\n", "all: word\n"])
def test_what_is_no_inventory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        inventory.hosts(LAB, addresses(1), text)


def test_empty_file_becomes_an_inventory() -> None:
    assert inventory.groups(inventory.hosts(LAB, addresses(1), "")) == {
        "node1": ["router", "prefill", "decode"]
    }


def test_stale_hosts_are_named() -> None:
    text = inventory.hosts(LAB, addresses(3), None)
    lines = inventory.stale(text, {"node1": "10.1.2.11", "node2": "10.7.7.12"})
    assert lines == [
        "node2 is 10.1.2.12 in the inventory, 10.7.7.12 in the lab",
        "node3 is in the inventory but not in the lab",
    ]
    assert inventory.stale(text, addresses(3)) == []


def test_variables_check_host_keys_and_name_no_absolute_path() -> None:
    text = inventory.variables(LAB, "127.0.0.1:5555")
    variables = yaml.safe_load(text)
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
    assert ".lab/t1/known_hosts" in variables["ansible_ssh_common_args"]
    assert variables["ansible_ssh_private_key_file"].startswith("{{ inventory_dir }}/../../.lab/t1")
    assert variables["pd_image_push"] == "127.0.0.1:5555/pdinfra"
    assert variables["pd_image_registry"] == "quay.io/pdinfra"
