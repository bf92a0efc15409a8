"""Checks of hosts against a plan: every known trap, before a container starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pdinfra.doctor import ascend, fleet, host, network, npu_ping, nvidia, reach, reachable
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
    checks += ascend.checks(plan, facts)
    checks += nvidia.checks(plan, facts)
    return checks


def catalogue() -> tuple[Rule, ...]:
    """Return every rule that a check can come from, in the order of the documentation."""
    return (
        *reachable.RULES,
        *host.RULES,
        *network.RULES,
        *fleet.RULES,
        *reach.RULES,
        *ascend.RULES,
        *npu_ping.RULES,
        *nvidia.RULES,
    )


def failures(checks: Sequence[Check]) -> list[Check]:
    """Return what forbids to start anything."""
    return [check for check in checks if check.status == "fail"]
