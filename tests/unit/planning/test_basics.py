"""/etc/hosts, reserved ports and time, as hosts that work together need them."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.plan import Plan
from pdinfra.planning.basics import (
    BasicsWork,
    basics_changes,
    basics_work,
    port_ranges,
    undone_work,
)
from pdinfra.planning.compare import compare
from pdinfra.planning.finish import Finished
from tests.unit.builders import ASCEND, TWO_HOSTS, facts, network, plan

DEBIAN = "127.0.0.1\tlocalhost\n127.0.1.1\ta.example a\n\n# IPv6\n::1 localhost\n"
KNOWN = {"a": ("10.0.0.1",), "b": ("10.0.0.2",)}


def two(**every: Any) -> Plan:
    return plan(TWO_HOSTS, every, a={"ansible_host": "10.0.0.1"}, b={"ansible_host": "10.0.0.2"})


def work(of: Plan, **seen: Any) -> BasicsWork:
    """Return what host a is to be given, whose network is as told."""
    host = of.host("a")
    return basics_work(of, host, facts(host, network=network(host, **seen)))


def test_one_machine_is_left_alone() -> None:
    of = plan()
    assert work(of, resolved={}, hosts_file=DEBIAN, daemons=()) == BasicsWork()


def test_names_that_nobody_knows_get_a_block_at_the_top() -> None:
    given = work(
        two(), resolved={"a": ("10.0.0.1",)}, hosts_file="127.0.0.1 localhost\n"
    ).hosts_file
    assert given == "# BEGIN pdinfra\n10.0.0.2 b\n# END pdinfra\n127.0.0.1 localhost\n"


def test_names_that_dns_knows_are_left_to_it() -> None:
    assert work(two(), resolved=KNOWN) == BasicsWork()


def test_debians_line_of_the_own_name_gets_the_hosts_address() -> None:
    looped = {**KNOWN, "a": ("127.0.1.1",)}
    given = work(two(), resolved=looped, hosts_file=DEBIAN).hosts_file
    assert given == DEBIAN.replace("127.0.1.1", "10.0.0.1")


def test_own_name_in_the_line_of_localhost_is_moved_to_the_block() -> None:
    looped = {**KNOWN, "a": ("127.0.0.1",)}
    given = work(two(), resolved=looped, hosts_file="127.0.0.1 localhost a\n").hosts_file
    assert given is not None
    assert "127.0.0.1 localhost\n" in given
    assert "10.0.0.1 a\n" in given


def test_second_run_changes_nothing() -> None:
    first = work(two(), resolved={"a": ("127.0.1.1",)}, hosts_file=DEBIAN).hosts_file
    assert first is not None
    assert work(two(), resolved=KNOWN, hosts_file=first) == BasicsWork()


def test_host_that_left_the_inventory_leaves_the_block() -> None:
    old = "# BEGIN pdinfra\n10.0.0.2 b\n10.0.0.9 gone\n# END pdinfra\n127.0.0.1 localhost\n"
    given = work(two(), resolved=KNOWN, hosts_file=old).hosts_file
    assert given == "# BEGIN pdinfra\n10.0.0.2 b\n# END pdinfra\n127.0.0.1 localhost\n"


def test_address_that_changed_is_changed_in_the_block() -> None:
    old = "# BEGIN pdinfra\n10.9.9.9 b\n# END pdinfra\n"
    given = work(two(), resolved={**KNOWN, "b": ("10.9.9.9",)}, hosts_file=old).hosts_file
    assert given == "# BEGIN pdinfra\n10.0.0.2 b\n# END pdinfra\n"


def test_addresses_that_are_names_cannot_be_written_and_are_not() -> None:
    of = plan(TWO_HOSTS, a={"ansible_host": "10.0.0.1"}, b={"ansible_host": "b.example"})
    assert work(of, resolved={"a": ("10.0.0.1",)}).hosts_file is None


def test_file_is_the_users_where_he_says_so() -> None:
    assert work(two(pd_manage_hosts=False), resolved={}, hosts_file=DEBIAN) == BasicsWork()


def test_ports_for_outgoing_connections_are_reserved_beside_what_is_reserved() -> None:
    given = work(
        two(pd_port=40000, pd_kv_port=40001), resolved=KNOWN, reserved=frozenset({8080, 40002})
    )
    assert given.reserved_ports == "8080,40000-40002"
    assert given.hosts_file is None
    assert "40000-40001 are inside 32768-60999" in given.reasons["ports"]
    done = frozenset({8080, 40000, 40001, 40002})
    assert work(two(pd_port=40000, pd_kv_port=40001), resolved=KNOWN, reserved=done) == BasicsWork()
    assert work(two(pd_port=40000, pd_manage_ports=False), resolved=KNOWN) == BasicsWork()


@pytest.mark.parametrize(
    ("seen", "install"),
    [
        ({}, True),
        ({"daemons": ("firewalld",)}, True),
        ({"daemons": ("chronyd",)}, False),
        ({"daemons": ("systemd-timesyn",)}, False),
        ({"in_container": True}, False),
    ],
)
def test_clock_is_set_where_nothing_does_and_it_can_be(seen: dict[str, Any], install: bool) -> None:
    assert work(two(pd_manage_time=True), resolved=KNOWN, **seen).time is install
    assert work(two(), resolved=KNOWN, **seen).time is False


def test_every_change_is_listed_with_its_reason() -> None:
    of = two(pd_port=40000, pd_manage_time=True)
    listed = basics_changes(of.host("a"), work(of, resolved={}))
    assert [(change.kind, change.id) for change in listed] == [
        ("host", "names"),
        ("host", "ports"),
        ("host", "time"),
    ]
    assert all(change.reason for change in listed)


def undone(of: Plan, **seen: Any) -> BasicsWork:
    """Return what `down` takes back on host a, whose network is as told."""
    host = of.host("a")
    return undone_work(host, facts(host, network=network(host, **seen)))


def test_down_takes_the_block_out_and_leaves_every_other_line() -> None:
    own = "127.0.0.1 localhost\n# mine\n10.9.9.9 other\n"
    given = work(two(), resolved={"a": ("10.0.0.1",)}, hosts_file=own).hosts_file
    assert given is not None
    assert given != own
    assert undone(two(), hosts_file=given).hosts_file == own
    assert undone(two(), hosts_file=own) == BasicsWork()


def test_down_frees_the_planned_ports_that_pdinfra_reserved_and_no_others() -> None:
    of = two(pd_port=40000, pd_kv_port=40001)
    every = frozenset({8080, 40000, 40001, 40002})
    back = undone(of, reserved=every, kept_reserved=every)
    assert back.reserved_ports == "8080,40002"
    assert back.hosts_file is None
    by_hand = undone(of, reserved=every, kept_reserved=frozenset())
    assert by_hand == BasicsWork()


def test_down_leaves_nothing_reserved_where_all_was_pdinfras() -> None:
    both = frozenset({40000, 40001})
    back = undone(two(pd_port=40000, pd_kv_port=40001), reserved=both, kept_reserved=both)
    assert back.reserved_ports == ""


def test_down_leaves_what_the_user_manages_himself() -> None:
    block = "# BEGIN pdinfra\n10.0.0.2 b\n# END pdinfra\n"
    both = frozenset({40000, 40001})
    of = two(pd_port=40000, pd_kv_port=40001, pd_manage_hosts=False, pd_manage_ports=False)
    assert undone(of, hosts_file=block, reserved=both, kept_reserved=both) == BasicsWork()


def test_down_on_one_machine_leaves_it_alone() -> None:
    block = "# BEGIN pdinfra\n10.0.0.2 b\n# END pdinfra\n"
    assert undone(plan(), hosts_file=block) == BasicsWork()


def test_down_lists_and_hands_over_what_it_takes_back() -> None:
    of = two()
    block = "# BEGIN pdinfra\n10.0.0.2 b\n# END pdinfra\n127.0.0.1 localhost\n"
    seen = {host.name: facts(host, network=network(host, hosts_file=block)) for host in of.hosts}
    found = compare(Finished(of), seen, "down", check=False)
    listed = [(change.host, change.kind, change.id, change.action) for change in found.changes]
    assert listed == [("a", "host", "names", "remove"), ("b", "host", "names", "remove")]
    assert found.work["a"].stages == ("host",)
    assert found.work["a"].basics.hosts_file == "127.0.0.1 localhost\n"


@pytest.mark.parametrize(
    ("ports", "text"), [([], ""), ([5], "5"), ([7, 5, 6, 5], "5-7"), ([1, 3, 4], "1,3-4")]
)
def test_ports_in_the_kernels_form(ports: list[int], text: str) -> None:
    assert port_ranges(ports) == text


def test_ports_that_hccl_opens_are_kept_on_hosts_with_npus() -> None:
    kept = work(two(**ASCEND)).reserved_ports
    assert kept is not None
    assert "60000-60031" in kept
