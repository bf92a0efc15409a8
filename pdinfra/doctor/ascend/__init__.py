"""The traps of Ascend hosts, before a container starts. Nothing here on other accelerators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pdinfra.doctor.ascend import cards, containers, driver, fleet, network
from pdinfra.doctor.ascend.host import ascend_hosts
from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan

RULES: tuple[Rule, ...] = (
    *driver.RULES,
    *cards.RULES,
    *network.RULES,
    *fleet.RULES,
    *containers.RULES,
)


def checks(plan: Plan, facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Yield every check of every observed Ascend host, good ones too.

    A cause hides what only follows from it: a host without a working driver is told just that.
    """
    hosts = ascend_hosts(plan, facts)
    for host in hosts:
        yield from driver.checks(host)
        yield from cards.checks(host)
        yield from network.checks(host)
        yield from containers.checks(host)
    yield from fleet.checks(hosts)
