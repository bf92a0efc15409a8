"""What the doctor tells of rank tables that containers read, against the hosts as they are."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pdinfra.doctor import failures
from pdinfra.doctor.rank_tables import checks
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from pdinfra.planning.finish import finish
from tests.unit.ascend import (
    DIST,
    SMALL,
    bare,
    cloud,
    fleet,
    fleet_facts,
    guide,
    running,
    with_card,
)

CPU_ENTRY = {"prefill": ["a"], "decode": ["a"], "router": ["c"]}


def examined(of: Plan, seen: Mapping[str, HostFacts]) -> list[Check]:
    found = finish(of, seen)
    return list(checks(found.plan, seen, found.tables, found.gaps))


def bad(of: Plan, seen: Mapping[str, HostFacts], name: str) -> list[Check]:
    """Return what is not well of one check."""
    return [c for c in examined(of, seen) if c.id == name and c.status != "ok"]


def changed(
    seen: Mapping[str, HostFacts], host: str, old: str = "", new: str = "", **more: int
) -> dict[str, HostFacts]:
    """Return facts in which somebody edited a host's tables, or changed their files."""
    mine = seen[host]
    files = {
        path: f.model_copy(update={"text": f.text.replace(old, new) if old else f.text, **more})
        for path, f in mine.rank_tables.items()
    }
    assert files != mine.rank_tables
    return {**seen, host: mine.model_copy(update={"rank_tables": files})}


@pytest.mark.parametrize("of", [guide(), cloud(), cloud(SMALL, DIST)])
def test_service_as_it_was_made_is_well(of: Plan) -> None:
    found = examined(of, running(of))
    assert {c.status for c in found} == {"ok"}
    assert {c.id for c in found} == {"rank-table", "rank-table-copies", "npu-rank-table"}


def test_service_without_tables_is_not_asked() -> None:
    assert examined(fleet(), fleet_facts(fleet())) == []


def test_host_before_the_first_up_reads_none() -> None:
    found = examined(guide(), bare(guide()))
    told = {c.id: (c.status, c.found) for c in found}
    assert told == {
        "rank-table": ("ok", "none is read yet: `up` writes it"),
        "npu-rank-table": ("ok", "it can"),
    }


def test_stale_address_names_file_place_and_both_addresses() -> None:
    of = guide()
    found = bad(of, with_card(running(of), "a", d4="10.20.1.99"), "rank-table")
    assert len(found) == 2, "the global table and the instance's own one"
    for check in found:
        assert (check.host, check.status) == ("a", "warn")
        assert '"10.20.1.5", stale' in check.found
        assert "ranktable" in check.found
        assert check.expected == '"10.20.1.99", the address of device 4 now'
        assert check.fix == "`up` writes it anew, and restarts who reads it"


def test_stale_address_of_another_host_is_told_where_it_is_read() -> None:
    of = cloud()
    found = bad(of, with_card(running(of), "b", d0="10.20.2.99"), "rank-table")
    assert {check.host for check in found} == {"a", "b"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rank_id": "1"', '"rank_id": "2"'),
        ('"status": "completed"', '"status": "initializing"'),
        ('"device_id": "5"', '"device_id": 5'),
        ('"10.20.1.7"', '"10.20.1.77"'),
        ("{", ""),
    ],
)
def test_edited_table_is_found(old: str, new: str) -> None:
    of = guide()
    assert bad(of, changed(running(of), "a", old, new), "rank-table")


def test_table_that_only_root_may_read_is_found() -> None:
    of = guide()
    found = bad(of, changed(running(of), "a", mode=0o600), "rank-table")
    assert found
    assert all("mode 0600 of user 0" in check.found for check in found)


def test_table_that_somebody_deleted_is_found() -> None:
    of = guide()
    seen = running(of)
    found = bad(of, {"a": seen["a"].model_copy(update={"rank_tables": {}})}, "rank-table")
    assert len(found) == 4, "the global table, two instances' and the scheduler's"
    assert all(check.found.endswith(".json: not there") for check in found)


def test_wrong_order_of_the_schedulers_ports_is_found() -> None:
    of = guide()
    seen = running(of)
    wrong = tuple(
        c.model_copy(
            update={"spec": c.spec.model_copy(update={"env": {**c.spec.env, "NODE_PORTS": "8088"}})}
        )
        for c in seen["a"].containers
    )
    found = bad(of, {"a": seen["a"].model_copy(update={"containers": wrong})}, "rank-table")
    assert "2 instances, NODE_PORTS has 1 ports" in found[0].found


def test_another_copy_on_one_host_is_found() -> None:
    of = cloud({**SMALL, "decode": ["b", "c"]})
    found = bad(of, changed(running(of), "c", '"10.20.3.1"', '"10.20.3.9"'), "rank-table-copies")
    (check,) = found
    assert (check.host, check.status) == ("c", "warn")
    assert check.found.endswith("a has another one")
    assert check.fix == "`up` without --limit writes it on all hosts"


def test_missing_address_forbids_to_start_anything_and_says_how_to_set_it() -> None:
    of = guide()
    (check,) = failures(examined(of, with_card(running(of), "a", d6=None)))
    assert (check.id, check.host, check.found) == (
        "npu-rank-table",
        "a",
        "device 6: it has no address",
    )
    assert check.fix == "`hccn_tool -i 6 -ip -s address A netmask M`"


def test_hosts_that_are_not_part_of_the_run_are_asked_for() -> None:
    of = cloud()
    (check,) = failures(examined(of, {"b": bare(of)["b"]}))
    assert check.host == "a"
    assert check.found == (
        "its devices: the host was not looked at, and no table that is there names them all"
    )
    assert check.fix == "run it for all hosts, without --limit"


def test_scheduler_on_a_host_without_cards_is_judged_by_its_tables() -> None:
    of = cloud(CPU_ENTRY)
    assert {c.host for c in examined(of, running(of)) if c.id == "rank-table"} == {"a", "c"}
    found = bad(of, changed(running(of), "c", mode=0o600), "rank-table")
    assert {check.host for check in found} == {"c"}


def test_device_that_the_plan_leaves_is_not_called_stale() -> None:
    smaller = cloud({"prefill": ["a"], "decode": ["a"], "router": ["a"]})
    before = running(cloud())
    seen = {
        "a": bare(smaller)["a"].model_copy(
            update={
                "containers": before["a"].containers,
                "rank_tables": before["a"].rank_tables,
            }
        )
    }
    found = bad(smaller, seen, "rank-table")
    assert not [check for check in found if "stale" in check.found]


def test_vllm_ascends_routers_host_reads_none() -> None:
    of = cloud({"prefill": ["a"], "decode": ["b"], "router": ["c"]}, DIST)
    assert {c.host for c in examined(of, running(of)) if c.id == "rank-table"} == {"a", "b"}
