"""Whether a host can be looked at at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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


def reachable_checks(hosts: Mapping[str, str]) -> Iterator[Check]:
    """Yield whether each host answered. hosts: what Ansible said of it, empty if all went well."""
    for host, message in hosts.items():
        yield REACHABLE.bad(host, message) if message else REACHABLE.ok(host, "answers")
