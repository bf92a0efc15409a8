"""Ray Serve as the head's host sees it: whether Ray could start what it was told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts, ServeFact
from pdinfra.model.plan import Plan

MOST_CHARACTERS = 300
"""Of Ray's message, which may have a whole traceback in it."""

SERVE = Rule(
    id="ray-serve",
    what="Ray Serve could start its applications, and their replicas answer it.",
    expected="applications that run, or are about to",
    fix="`pdinfra logs` of the head and of the nodes shows why; correct it and run `up`",
    source="Ray Serve's API: status and message of an application",
    # No fail: that would keep `up` from mending it.
    severity="warn",
)
RULES: tuple[Rule, ...] = (SERVE,)


def serve_checks(plan: Plan, facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Yield one check for each application of the head, if there is a head that answers."""
    if plan.ray is None or plan.ray.head.host not in facts:
        return
    host = plan.ray.head.host
    seen = facts[host].serve
    if seen is not None:
        yield from _applications(host, seen)


def _applications(host: str, seen: ServeFact) -> Iterator[Check]:
    """Compare the applications' states."""
    for name, status in seen.statuses.items():
        message = " ".join(seen.messages.get(name, "").split())[:MOST_CHARACTERS]
        found = f"{name} is {status}" + (f": {message}" if message else "")
        bad = status in ("DEPLOY_FAILED", "UNHEALTHY")
        yield SERVE.bad(host, found) if bad else SERVE.ok(host, found)
