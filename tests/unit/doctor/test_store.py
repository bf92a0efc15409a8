"""The data system on hosts as they were looked at."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.doctor.store import store_checks
from pdinfra.model.checks import Check
from pdinfra.model.plan import Plan
from tests.unit.builders import (
    AUTHORITY,
    FULL,
    FULL_HOSTS,
    NOW,
    YUANRONG,
    converged,
    good_model,
    plan,
)

GROUPS = {"router": ["a"], "prefill": ["a"], "decode": ["b"]}
GIB = 1024**3


def found(made: Plan, **of_b: Any) -> dict[tuple[str, str], Check]:
    """Return the checks by id and host; of_b: what is otherwise on host b."""
    facts = {host.name: converged(host) for host in made.hosts}
    facts["b"] = facts["b"].model_copy(update=of_b)
    return {(check.id, check.host): check for check in store_checks(made, facts)}


def test_all_well() -> None:
    checks = found(plan(GROUPS, YUANRONG))
    assert set(checks) == {("certificate", "a"), ("certificate", "b")}
    assert {check.status for check in checks.values()} == {"ok"}
    assert found(plan(GROUPS)) == {}


@pytest.mark.parametrize(
    ("days", "said"), [(10, "it ends in 10 days"), (-1, "it has ended")], ids=str
)
def test_a_certificate_that_ends_soon_is_told_with_what_mends_it(days: int, said: str) -> None:
    made = plan(GROUPS, YUANRONG)
    host = made.host("b")
    good = converged(host).certificates
    path = "/var/lib/pdinfra/pd/pki/node.crt"
    late = good[path].model_copy(update={"expires": NOW + days * 86400 + 60})
    check = found(made, certificates={**good, path: late})["certificate", "b"]
    assert (check.status, check.found) == ("warn", said)
    assert "up" in check.fix
    assert made.store is not None
    assert made.store.authority == AUTHORITY


def test_weights_that_do_not_fit_into_the_data_system() -> None:
    every = {**YUANRONG, "pd_load_format": "yuanrong", "pd_datasystem_gib": 2}
    made = plan(GROUPS, every)
    path = made.host("b").models[0].path
    small = found(made, models=(good_model(path, weight_bytes=GIB),))
    assert small["datasystem-weights", "b"].status == "ok"
    big = found(made, models=(good_model(path, weight_bytes=3 * GIB),))["datasystem-weights", "b"]
    assert big.status == "warn"
    assert "3.0 GiB of weights, 2.0 GiB in the worker" in big.found
    assert "pd_datasystem_gib" in big.fix


def test_a_count_of_agents_that_is_not_the_plans_is_told() -> None:
    made = plan(GROUPS, FULL, **FULL_HOSTS)
    assert made.cluster is not None

    def said(count: str) -> list[str]:
        notes = {made.cluster.agents: count} if made.cluster else {}
        seen = {"a": converged(made.host("a"), notes=notes), "b": converged(made.host("b"))}
        return [f"{c.host} {c.status} {c.found}" for c in store_checks(made, seen)]

    assert said("2") == ["a ok 2"]
    assert said("1") == ["a warn 1"]
