"""A shared folder that is not shared, cannot be written, lies wrong or is full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pdinfra.doctor.shared_path import shared_path_checks
from pdinfra.model.checks import Check
from pdinfra.model.shared_path import ABSENT, SharedProbe, Written
from tests.unit.builders import GIB, ONE_HOST, TWO_HOSTS, plan

THREE = {"prefill": ["a"], "decode": ["b", "c"], "router": ["a"]}
ROOM = {"free": 500 * GIB, "size": 1000 * GIB}
NFS = Written.model_validate({"there": True, "mount": "/srv/kv", "kind": "nfs4", **ROOM})
BAD = {"mount": "/", "kind": "ext4"}


def checks(
    blind: Mapping[str, Mapping[str, str]],
    groups: Mapping[str, list[str]] = THREE,
    own: bool = False,
    **more: Mapping[str, Any],
) -> list[Check]:
    """Return the checks; blind: who does not see whom and why, more: of what a host wrote."""
    of = plan(groups)
    names = tuple(host.name for host in of.hosts)
    probe = SharedProbe(folder="/srv/kv", uid=1000, hosts=names, own=own)
    written = {n: Written.model_validate({**NFS.model_dump(), **more.get(n, {})}) for n in names}
    seen = {n: {other: blind.get(n, {}).get(other, "") for other in names} for n in names}
    return list(shared_path_checks(of, dict.fromkeys(names, probe), written, seen))


def bad(found: list[Check], name: str = "shared-path") -> dict[str, str]:
    """Return the findings of one check by host."""
    return {c.host: c.found for c in found if c.id == name and c.status != "ok"}


def test_folder_that_all_see_is_shared() -> None:
    found = checks({})
    assert {c.status for c in found} == {"ok"}
    assert [(c.id, c.host) for c in found] == [
        ("shared-path", "a"),
        ("shared-path-mount", "a"),
        ("shared-path", "b"),
        ("shared-path-mount", "b"),
        ("shared-path", "c"),
        ("shared-path-mount", "c"),
        ("shared-path-space", "a"),
    ]


def test_of_two_that_do_not_see_each_other_the_second_is_named_with_the_fix() -> None:
    found = checks({"a": {"b": ABSENT}, "b": {"a": ABSENT}}, TWO_HOSTS)
    (line,) = (str(c) for c in found if c.status == "fail")
    assert line == (
        "b: shared-path: found /srv/kv: does not see what a wrote there: it is not the same folder,"
        " expected every host sees what every other one wrote there."
        " Fix: mount one NFS, Lustre or CephFS folder at /srv/kv on both"
    )


@pytest.mark.parametrize("odd", ["a", "b", "c"])
def test_the_one_that_is_elsewhere_is_named_not_the_others(odd: str) -> None:
    rest = [name for name in "abc" if name != odd]
    blind = {odd: dict.fromkeys(rest, ABSENT), **{name: {odd: ABSENT} for name in rest}}
    found = checks(blind)
    told = f"does not see what {rest[0]}, {rest[1]} wrote there: it is not the same folder"
    assert bad(found) == {odd: f"/srv/kv: {told}"}
    assert f"sees {rest[0]}, {rest[1]}" in [
        c.found.partition(": ")[2] for c in found if c.host == rest[0]
    ]


def test_three_folders_are_one_and_two_that_are_not_it() -> None:
    blind = {n: {other: ABSENT for other in "abc" if other != n} for n in "abc"}
    assert set(bad(checks(blind))) == {"b", "c"}


@pytest.mark.parametrize(
    "blind",
    [
        {"b": {"a": ABSENT}},
        {"b": {"a": ABSENT}, "c": {"a": ABSENT}},
        {"a": {"b": ABSENT, "c": ABSENT}},
    ],
)
def test_one_that_does_not_see_what_others_do_is_never_lost(blind: dict[str, Any]) -> None:
    assert set(bad(checks(blind))) == set(blind)


def test_file_that_cannot_be_read_says_why() -> None:
    found = bad(checks({"b": {"a": "Permission denied"}}))
    assert found == {"b": "/srv/kv: does not see what a wrote there: Permission denied"}


def test_folder_that_is_missing_or_cannot_be_written() -> None:
    found = checks({}, b={"there": False, "error": "No such file or directory"})
    assert bad(found) == {"b": "/srv/kv: not there"}
    found = checks({}, b={"error": "Permission denied"})
    told = "/srv/kv: user 1000, as engines are, cannot write: Permission denied"
    assert bad(found) == {"b": told}
    (check,) = (c for c in found if c.status == "fail")
    assert "chown 1000 /srv/kv" in check.fix


def test_own_folder_that_is_missing_is_made_by_up() -> None:
    missing = {"there": False, "error": "No such file or directory"}
    (found,) = checks({}, ONE_HOST, own=True, a=missing)
    assert (found.status, found.found) == ("ok", "/srv/kv: `up` makes it")


def test_root_file_system_is_worth_a_warning_on_several_machines() -> None:
    found = checks({}, b=BAD)
    assert bad(found, "shared-path-mount") == {"b": "/srv/kv is on the root file system"}
    assert all(c.id != "shared-path-mount" for c in checks({}, ONE_HOST, a=BAD))


@pytest.mark.parametrize(("free", "size"), [(9, 20), (40, 1000)])
def test_little_room_is_said_once_by_who_sees_least(free: int, size: int) -> None:
    found = checks({}, b={"free": free * GIB, "size": size * GIB})
    (check,) = (c for c in found if c.id == "shared-path-space")
    assert (check.host, check.status) == ("b", "warn")
    assert f"{free}.0 GiB free" in check.found


def test_host_that_did_not_answer_is_left_to_the_finding_that_says_so() -> None:
    of = plan(TWO_HOSTS)
    probe = SharedProbe(folder="/srv/kv", uid=0, hosts=("a", "b"), own=False)
    found = list(shared_path_checks(of, {"a": probe, "b": probe}, {"a": NFS}, {"a": {"a": ""}}))
    assert {(c.host, c.status) for c in found} == {("a", "ok")}
