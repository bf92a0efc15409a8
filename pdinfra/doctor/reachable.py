"""Whether a host can be looked at at all."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check

REACHABLE = Rule(
    id="reachable",
    what="Ansible can log in to the host and run its modules there.",
    expected="a login by SSH, and Python 3",
    fix="check ansible_host, ansible_user, the SSH key and known_hosts; try `ssh` by hand",
    source="Ansible",
)

RULES: tuple[Rule, ...] = (REACHABLE,)


def reachable_checks(hosts: Mapping[str, str], spare: Container[str] = ()) -> Iterator[Check]:
    """Yield whether each host answered. hosts: what Ansible said of it, empty if all went well.

    A ``spare`` host is in no group. It may be off; but then nothing can be removed from it.
    """
    for host, message in hosts.items():
        if not message:
            yield REACHABLE.ok(host, "answers")
        elif host in spare:
            fix = "nothing, if it is off; else what it still runs of the service stays there"
            yield REACHABLE.bad(host, message, fix=fix, severity="warn")
        else:
            yield REACHABLE.bad(host, message)
