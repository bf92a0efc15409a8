"""The doctor as a whole: all hosts, all rules, one document."""

from __future__ import annotations

from collections import Counter

from pdinfra.doctor import catalogue, examine
from pdinfra.doctor.reachable import reachable_checks
from pdinfra.model.checks import Check, document
from tests.unit.builders import NOW, TWO_HOSTS, converged, facts, plan

A = {"ansible_host": "10.0.0.1"}
B = {"ansible_host": "10.0.0.2"}


def test_healthy_fleet_has_only_good_checks_before_and_after_up() -> None:
    made = plan(TWO_HOSTS, a=A, b=B)
    for look in (facts, converged):
        checks = examine(made, {host.name: look(host) for host in made.hosts}, NOW)
        assert {c.status for c in checks} == {"ok"}, [str(c) for c in checks if c.status != "ok"]


def test_hosts_that_were_not_looked_at_are_left_out() -> None:
    made = plan(TWO_HOSTS)
    assert {c.host for c in examine(made, {"b": facts(made.host("b"))}, NOW)} == {"b"}


def test_host_that_does_not_answer_is_a_finding_with_what_ansible_said() -> None:
    good, bad = reachable_checks({"a": "", "b": "Connection refused"})
    assert (good.host, good.status) == ("a", "ok")
    assert (bad.host, bad.status, bad.found) == ("b", "fail", "Connection refused")
    assert "ssh" in bad.fix


def test_host_in_no_group_may_be_off() -> None:
    (off,) = reachable_checks({"a": "No route to host"}, spare={"a"})
    assert (off.status, off.found) == ("warn", "No route to host")


def test_every_rule_is_documented_whole_and_named_once() -> None:
    rules = catalogue()
    assert [name for name, count in Counter(rule.id for rule in rules).items() if count > 1] == []
    for rule in rules:
        assert rule.what.endswith("."), rule.id
        assert rule.expected, rule.id
        assert rule.fix, rule.id
        assert rule.source, rule.id


def test_every_check_comes_from_a_rule_of_the_catalogue() -> None:
    made = plan(TWO_HOSTS, a=A, b=B)
    known = {rule.id for rule in catalogue()}
    seen = examine(made, {host.name: converged(host) for host in made.hosts}, NOW)
    assert {check.id for check in seen} <= known


def test_one_line_says_host_check_found_expected_and_fix() -> None:
    one = Check(id="disk", host="a", status="fail", found="1", expected="2", fix="three")
    assert str(one) == "a: disk: found 1, expected 2. Fix: three"


def test_json_says_not_ok_only_for_failures_and_keeps_invalid_inside() -> None:
    warn = Check(id="x", host="a", status="warn", found="1", expected="2")
    fail = Check(id="x", host="a", status="fail", found="1", expected="2", invalid=True)
    assert document([warn])["ok"] is True
    assert document([warn, fail])["ok"] is False
    assert set(document([fail])["checks"][0]) == {
        "id",
        "host",
        "status",
        "found",
        "expected",
        "fix",
    }
