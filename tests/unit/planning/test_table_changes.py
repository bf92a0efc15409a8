"""What happens to rank tables, why, whom it touches, and in which steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pdinfra.doctor import failures
from pdinfra.doctor.rank_tables import checks
from pdinfra.model.changes import Change
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from pdinfra.planning.changes import unseen_changes
from pdinfra.planning.compare import Comparison, compare
from pdinfra.planning.finish import finish
from pdinfra.planning.table_changes import NO_TABLES
from tests.unit.ascend import (
    DIST,
    SMALL,
    as_made,
    bare,
    cloud,
    guide,
    running,
    text_fact,
    with_card,
)
from tests.unit.builders import Groups

HOME = "/var/lib/pdinfra/pd/ranktables"
Facts = Mapping[str, HostFacts]


def compared(of: Plan, seen: Facts, mode: Any = "converge", *, check: bool = False) -> Comparison:
    return compare(finish(of, seen), seen, mode, check=check)


def tables(found: Comparison) -> list[tuple[str, str, str]]:
    """Return what happens to tables: host, action, reason."""
    return [(c.host, c.action, c.reason) for c in found.changes if c.kind == "ranktable"]


def containers(found: Comparison) -> dict[str, Change]:
    return {c.id: c for c in found.changes if c.kind in ("instance", "router")}


def actions(found: Comparison) -> dict[str, str]:
    return {name: change.action for name, change in containers(found).items()}


def refusals(of: Plan, seen: Facts) -> list[Check]:
    """Return what forbids to start anything, of all that concerns tables."""
    found = finish(of, seen)
    return failures(checks(found.plan, seen, found.tables, found.gaps))


def with_files(seen: Facts, host: str, **more: Any) -> dict[str, HostFacts]:
    """Return facts with each of a host's tables changed."""
    mine = seen[host]
    files = {path: file.model_copy(update=more) for path, file in mine.rank_tables.items()}
    return {**seen, host: mine.model_copy(update={"rank_tables": files})}


def edited(seen: Facts, host: str, old: str, new: str) -> dict[str, HostFacts]:
    """Return facts in which somebody replaced words in all tables of a host."""
    mine = seen[host]
    files = {
        path: file.model_copy(update={"text": file.text.replace(old, new)})
        for path, file in mine.rank_tables.items()
    }
    assert files != mine.rank_tables
    return {**seen, host: mine.model_copy(update={"rank_tables": files})}


def later(old: Plan, of: Plan) -> dict[str, HostFacts]:
    """Return a service that runs as planned before, on hosts as the new plan looks at them."""
    there, fresh = running(old), bare(of)
    kept = ("containers", "rank_tables")
    return {
        name: seen.model_copy(update={key: getattr(there[name], key) for key in kept})
        if name in there
        else seen
        for name, seen in fresh.items()
    }


def test_nothing_to_do() -> None:
    of = cloud()
    found = compared(of, running(of))
    assert {change.action for change in found.changes} == {"keep"}
    assert all(work.stages == () for work in found.work.values())
    assert all(work.rank_tables == NO_TABLES for work in found.work.values())
    assert refusals(of, running(of)) == []


def test_first_table_is_written_before_who_reads_it() -> None:
    of = cloud()
    found = compared(of, bare(of))
    assert tables(found) == [(host, "create", "no table yet") for host in ("a", "b")]
    mine = [c.kind for c in found.changes if c.host == "a"]
    assert mine == ["ranktable", "instance", "instance", "router"]
    wanted = finish(of, bare(of)).tables
    for host, work in found.work.items():
        assert {file.path: file.text for file in work.rank_tables.files} == wanted[host]
        assert work.rank_tables.removed == ()
        assert work.stages[0] == "ranktable"


def test_cards_new_address_is_named_with_everybody_it_touches() -> None:
    of = guide()
    seen = with_card(running(of), "a", d4="10.20.1.99")
    found = compared(of, seen)
    old = next(iter(seen["a"].rank_tables)).rpartition("/")[0]
    assert tables(found) == [
        (
            "a",
            "create",
            "device 4 of a has 10.20.1.99 now, not 10.20.1.5; "
            "restarts prefill-a-0, decode-a-0, router",
        ),
        ("a", "remove", "no container reads it any more"),
    ]
    assert actions(found) == dict.fromkeys(("prefill-a-0", "decode-a-0", "router"), "replace")
    assert containers(found)["router"].reason == "reads another rank table"
    assert containers(found)["router"].fields == ()
    assert found.work["a"].rank_tables.removed == (old,)


def test_many_new_addresses_are_not_all_listed() -> None:
    of = cloud()
    moved = {f"d{n}": f"10.20.1.{n + 101}" for n in range(4)}
    seen = with_card(running(of), "a", **moved)
    seen = with_card(seen, "b", d0="10.20.2.99")
    reason = tables(compared(of, seen))[0][2]
    # In the table's order: prefill of both hosts comes before decode.
    assert "device 2 of a has 10.20.1.103 now, not 10.20.1.3, and 1 more; restarts" in reason


ONE_AND_ONE = {"prefill": ["a"], "decode": ["a"], "router": ["a"]}


def test_scale_out_says_who_joins_and_who_restarts() -> None:
    of = cloud()
    seen = later(cloud(ONE_AND_ONE), of)
    found = compared(of, seen)
    told = (
        "with decode 192.0.2.12_23, with prefill 192.0.2.12_01; "
        "restarts prefill-a-0, decode-a-0, router"
    )
    assert tables(found) == [
        ("a", "create", told),
        ("a", "remove", "no container reads it any more"),
        ("b", "create", told),
    ]
    assert actions(found) == {
        "prefill-a-0": "replace",
        "decode-a-0": "replace",
        "router": "replace",
        "prefill-b-0": "create",
        "decode-b-0": "create",
    }
    assert "NODE_PORTS: 8088,8089 → 8088,8088,8089,8089" in containers(found)["router"].reason


def test_scale_in_says_who_leaves() -> None:
    of = cloud(ONE_AND_ONE)
    old = cloud()
    seen = {name: facts for name, facts in later(old, old).items() if name == "a"}
    assert tables(compared(of, seen))[0][2].startswith(
        "without decode 192.0.2.12_23, without prefill 192.0.2.12_01; restarts"
    )


def test_edited_table_is_made_again_and_who_reads_it_goes_on() -> None:
    of = guide()
    seen = edited(running(of), "a", '"10.20.1.5"', '"10.20.1.50"')
    found = compared(of, seen)
    ((host, action, reason),) = tables(found)
    assert (host, action) == ("a", "replace")
    assert reason == (
        "global_ranktable_192.0.2.11.json, local_ranktable_192.0.2.11_45.json: "
        "not as written, made again"
    )
    assert set(actions(found).values()) == {"keep"}
    written = {file.path.rpartition("/")[2] for file in found.work["a"].rank_tables.files}
    assert written == {"global_ranktable_192.0.2.11.json", "local_ranktable_192.0.2.11_45.json"}
    assert found.work["a"].stages == ("ranktable",)


def test_table_that_its_readers_cannot_read_is_made_again() -> None:
    of = guide()
    found = compared(of, with_files(running(of), "a", mode=0o600))
    assert [action for _, action, _ in tables(found)] == ["replace"]


def test_one_lost_file_is_written_alone() -> None:
    of = guide()
    seen = running(of)
    files = dict(seen["a"].rank_tables)
    lost = next(path for path in files if path.endswith("_host.json"))
    del files[lost]
    found = compared(of, {"a": seen["a"].model_copy(update={"rank_tables": files})})
    assert [file.path for file in found.work["a"].rank_tables.files] == [lost]
    assert set(actions(found).values()) == {"keep"}


def test_folder_that_nobody_reads_is_removed() -> None:
    of = guide()
    seen = running(of)
    old = {f"{HOME}/0123456789ab/global_ranktable_192.0.2.11.json": text_fact("{}")}
    files = {**seen["a"].rank_tables, **old}
    found = compared(of, {"a": seen["a"].model_copy(update={"rank_tables": files})})
    assert tables(found) == [("a", "remove", "no container reads it any more")]
    assert found.work["a"].rank_tables.removed == (f"{HOME}/0123456789ab",)
    assert found.work["a"].rank_tables.files == ()


@pytest.mark.parametrize("of", [guide(), cloud()])
def test_tables_that_somebody_deleted_are_written_again(of: Plan) -> None:
    seen = running(of)
    found = compared(of, {**seen, "a": seen["a"].model_copy(update={"rank_tables": {}})})
    gone = "gone, although containers read it: written again"
    assert tables(found) == [("a", "create", gone)]
    assert set(actions(found).values()) == {"keep"}


def test_host_that_was_installed_anew_gets_the_same_table() -> None:
    of = cloud()
    found = compared(of, {**running(of), "b": bare(of)["b"]})
    assert tables(found) == [("b", "create", "not on the host")]
    assert actions(found)["prefill-a-0"] == "keep"
    assert actions(found)["prefill-b-0"] == "create"


def test_unknown_address_is_refused_and_nothing_is_touched() -> None:
    of = guide()
    seen = with_card(running(of), "a", d6=None)
    found = compared(of, seen)
    assert set(actions(found).values()) == {"keep"}
    assert tables(found) == []
    assert found.work["a"].rank_tables == NO_TABLES
    (refusal,) = refusals(of, seen)
    assert (refusal.id, refusal.found) == ("npu-rank-table", "device 6: it has no address")


def test_down_removes_containers_and_leaves_tables() -> None:
    of = cloud()
    found = compared(of, running(of), "down")
    assert {change.action for change in found.changes} == {"remove"}
    assert tables(found) == []
    assert all(work.rank_tables == NO_TABLES for work in found.work.values())


def test_hosts_that_were_not_looked_at_are_to_have_tables() -> None:
    of = cloud()
    planned = [(c.kind, c.id) for c in unseen_changes(of.host("b")) if c.kind != "image"]
    assert planned == [
        ("ranktable", HOME),
        ("instance", "prefill-b-0"),
        ("instance", "decode-b-0"),
    ]


def test_check_mode_writes_tables_before_images_are_there() -> None:
    of = guide()
    seen = {"a": bare(of)["a"].model_copy(update={"images": {}})}
    assert compared(of, seen, check=True).work["a"].stages == ("image", "ranktable")
    assert compared(of, seen).work["a"].stages == ("image", "ranktable", "instance", "router")


def test_part_of_the_hosts_may_be_mended() -> None:
    of = cloud()
    seen = running(of)
    part = with_files({"b": seen["b"]}, "b", mode=0o600)
    assert refusals(of, part) == []
    assert tables(compared(of, part))[0][1] == "replace"


@pytest.mark.parametrize(("host", "other"), [("a", "b"), ("b", "a")])
def test_part_of_the_hosts_must_not_change_the_table(host: str, other: str) -> None:
    of = cloud()
    moved = with_card(running(of), host, d0="10.20.9.99")
    (refusal,) = refusals(of, {host: moved[host]})
    assert refusal.id == "npu-rank-table"
    assert refusal.found == f"the table changes, and {other} is not part of this run"
    assert refusal.fix == "run it for all hosts, without --limit"


@pytest.mark.parametrize("started", [(), ("prefill-a-0",)])
def test_part_of_the_hosts_must_not_end_what_a_run_for_all_left_half_done(
    started: tuple[str, ...],
) -> None:
    of = cloud()
    before = with_card(running(of), "a", d0="10.20.1.99")
    after = as_made(finish(of, before), before)
    old, new = before["a"], after["a"]
    containers = tuple((new if c.id in started else old).container(c.id) for c in old.containers)
    half = {"containers": containers, "rank_tables": {**old.rank_tables, **new.rank_tables}}
    (refusal,) = refusals(of, {"a": old.model_copy(update=half)})
    assert refusal.found == "the table changes, and b is not part of this run"


def test_new_host_alone_is_refused() -> None:
    of = cloud()
    seen = later(cloud(ONE_AND_ONE), of)
    assert refusals(of, {"b": seen["b"]})[0].found == (
        "its devices: the host was not looked at, and no table that is there names them all"
    )
    assert "b is not part of this run" not in str(refusals(of, seen))


def dist(groups: Groups) -> Plan:
    return cloud(groups, DIST)


def test_vllm_ascends_running_instances_are_not_touched_by_another_decode() -> None:
    of = dist({**SMALL, "decode": ["b", "c"]})
    found = compared(of, later(dist(SMALL), of))
    assert {n: a for n, a in actions(found).items() if n != "router"} == {
        "prefill-a-0": "keep",
        "decode-b-0": "keep",
        "decode-c-0": "create",
    }
    assert {(host, action) for host, action, _ in tables(found)} == {
        ("a", "replace"),
        ("b", "replace"),
        ("c", "create"),
    }


def test_vllm_ascends_decode_follows_another_prefill() -> None:
    of = dist({**SMALL, "prefill": ["a", "c"]})
    found = compared(of, later(dist(SMALL), of))
    assert actions(found)["prefill-a-0"] == "keep"
    assert actions(found)["decode-b-0"] == "replace"
    assert containers(found)["decode-b-0"].reason.startswith("reads another rank table")


def test_host_that_reads_no_table_need_not_be_part_of_the_run() -> None:
    of = dist({**SMALL, "router": ["c"]})
    seen = {name: mine for name, mine in bare(of).items() if name != "c"}
    assert refusals(of, seen) == []


def test_inventory_hosts_that_are_one_machine_leave_each_others_tables() -> None:
    one = {"pd_address": "192.0.2.11"}
    other = {**one, "pd_internal_port": 13000, "pd_devices": [1]}
    of = cloud(SMALL, DIST, a=one, b=other)
    before = bare(of)
    found = finish(of, before)
    seen = as_made(found, before)
    every = {path: file for mine in seen.values() for path, file in mine.rank_tables.items()}
    seen = {name: mine.model_copy(update={"rank_tables": every}) for name, mine in seen.items()}
    assert tables(compared(of, seen)) == []
