"""Checks of hosts against a plan: every known trap, before a container starts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pdinfra.doctor import (
    ascend,
    fit,
    fleet,
    host,
    layers,
    network,
    npu_ping,
    nvidia,
    rank_tables,
    ray,
    reach,
    reachable,
    shared_path,
    spans,
    store,
)
from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan


def examine(plan: Plan, facts: Mapping[str, HostFacts], clock: float) -> list[Check]:
    """Return all checks of all observed hosts that one look at each allows.

    clock: the controller's, seconds since the epoch.
    """
    checks: list[Check] = []
    for planned in plan.active:
        if planned.name in facts:
            checks += host.host_checks(planned, facts[planned.name])
            checks += network.network_checks(plan, planned, facts[planned.name])
    checks += fleet.fleet_checks(plan, facts, clock)
    checks += spans.span_checks(plan)
    checks += layers.layer_checks(plan, facts)
    checks += fit.fit_checks(plan, facts)
    checks += store.store_checks(plan, facts)
    checks += ascend.checks(plan, facts)
    checks += nvidia.checks(plan, facts)
    checks += ray.serve_checks(plan, facts)
    return checks


def catalogue() -> tuple[Rule, ...]:
    """Return every rule that a check can come from, in the order of the documentation."""
    return (
        *reachable.RULES,
        *host.RULES,
        *network.RULES,
        *fleet.RULES,
        *spans.RULES,
        *layers.RULES,
        *fit.RULES,
        *reach.RULES,
        *store.RULES,
        *shared_path.RULES,
        *ascend.RULES,
        *rank_tables.RULES,
        *npu_ping.RULES,
        *nvidia.RULES,
        *ray.RULES,
    )


def failures(checks: Iterable[Check], new_driver: Collection[str] = ()) -> list[Check]:
    """Return what forbids to start anything.

    new_driver: hosts whose driver is about to change. What their NPUs look like now says nothing;
    it is looked at again, and not forgiven, after that.
    """
    return [
        check
        for check in checks
        if check.status == "fail" and not (_of_npus(check) and _names(check, new_driver))
    ]


def _of_npus(check: Check) -> bool:
    """Tell whether a check needs a working driver."""
    return check.id.startswith("npu-")


def _names(check: Check, hosts: Collection[str]) -> bool:
    """Tell whether a check is of one of the hosts, alone or in a pair (``a → b``)."""
    return any(name in hosts for name in check.host.split(" → "))
