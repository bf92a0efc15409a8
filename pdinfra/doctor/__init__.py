"""Checks of hosts against a plan: every known trap, before a container starts."""

from __future__ import annotations

from collections.abc import Mapping

from pdinfra.doctor.checks import host_checks
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan


def examine(plan: Plan, facts: Mapping[str, HostFacts], clock: float) -> list[Check]:
    """Return all checks of all observed hosts. clock: the controller's, seconds since the epoch."""
    return [
        check
        for host in plan.hosts
        if host.name in facts and not host.spare
        for check in host_checks(host, facts[host.name], clock)
    ]


def failures(checks: list[Check]) -> list[Check]:
    """Return what forbids to start anything."""
    return [check for check in checks if check.status == "fail"]
