"""Plan and facts of all hosts → all changes, and every host's work order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.planning.basics import NO_BASICS, BasicsWork, basics_changes, basics_work, undone_work
from pdinfra.planning.changes import host_changes, removals
from pdinfra.planning.deployment import (
    NO_DEPLOYMENT,
    deployment_changes,
    deployment_work,
    with_master,
)
from pdinfra.planning.finish import Finished
from pdinfra.planning.members import NO_MEMBERS, member_changes, member_work
from pdinfra.planning.pairs import with_partners
from pdinfra.planning.ray_changes import with_head
from pdinfra.planning.table_changes import NO_TABLES, table_work, with_tables
from pdinfra.planning.waves import ONE_WAVE, waves
from pdinfra.planning.work import HostWork, host_work, with_shares

Mode = Literal["converge", "again", "look", "doctor", "down"]


@dataclass(frozen=True)
class Comparison:
    """What happens, and what each observed host's roles are handed for it."""

    changes: list[Change]
    work: dict[str, HostWork]
    waves: int = 1


def compare(
    finished: Finished, facts: Mapping[str, HostFacts], mode: Mode, *, check: bool
) -> Comparison:
    """Compare all observed hosts at once.

    ``down`` removes every container of the service, and what the hosts themselves were given.
    """
    plan = finished.plan
    hosts = [host for host in plan.hosts if host.name in facts]
    members = NO_MEMBERS
    order = ONE_WAVE
    basics: dict[str, BasicsWork] = {}
    if mode == "down":
        basics = {host.name: undone_work(host, facts[host.name]) for host in hosts}
        by_host = {
            host.name: removals(host.name, facts[host.name].containers)
            + basics_changes(host, basics[host.name], "remove")
            for host in hosts
        }
        everything = [change for mine in by_host.values() for change in mine]
    else:
        basics = {host.name: basics_work(plan, host, facts[host.name]) for host in hosts}
        by_host = {
            host.name: basics_changes(host, basics[host.name])
            + host_changes(host, facts[host.name], plan.store.authority if plan.store else "")
            for host in hosts
        }
        everything = [change for mine in by_host.values() for change in mine]
        by_host = {n: with_master(plan, facts, mine, everything) for n, mine in by_host.items()}
        everything = [change for mine in by_host.values() for change in mine]
        by_host = with_head(plan, by_host)
        by_host = with_partners(plan, facts, by_host)
        everything = [change for mine in by_host.values() for change in mine]
        order = waves(plan, facts, everything)
        by_host = with_tables(finished, facts, by_host, order)
        everything = [change for mine in by_host.values() for change in mine]
        members = member_work(plan, facts, everything)
        if plan.router.host in by_host:
            by_host[plan.router.host] += member_changes(plan, facts, everything)
    if plan.router.host in by_host:
        by_host[plan.router.host] += deployment_changes(
            plan, facts, everything, down=mode == "down"
        )
    every = [change for mine in by_host.values() for change in mine]
    work = {
        host.name: host_work(
            host,
            by_host[host.name],
            check=check,
            basics=basics.get(host.name, NO_BASICS),
            members=members if host.name == plan.router.host else NO_MEMBERS,
            later=order.later,
            rank_tables=NO_TABLES
            if mode == "down"
            else table_work(finished, host.name, facts[host.name]),
            deployment=deployment_work(plan, facts, by_host.get(plan.router.host, ()))
            if host.name == plan.router.host
            else NO_DEPLOYMENT,
        )
        for host in hosts
    }
    return Comparison(every, with_shares(plan, work), waves=2 if order.later else 1)
