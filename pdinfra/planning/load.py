"""Ansible's view of an inventory (groups, variables) → a validated Inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pdinfra.model.inventory import (
    GROUPS,
    ROLES,
    SERVICE_WIDE,
    Host,
    HostSettings,
    InstanceEntry,
    InstanceSettings,
    Inventory,
    further_hosts,
)
from pdinfra.model.problems import InvalidInventoryError, Problem

PREFIX = "pd_"
INTERNAL = frozenset(
    {
        "pd_planned",
        "pd_compared",
        "pd_observed",
        "pd_observed_spare",
        "pd_waited",
        "pd_cleaned",
        "pd_counted",
        "pd_deployed",
        "pd_ray_counted",
        "pd_store_token",
        "pd_store_seen",
        "pd_store_written",
        "pd_store_read",
        "pd_listening",
        "pd_connected",
        "pd_hashed",
        "pd_pinged",
    }
)
"""Variables that pdinfra's own playbooks register; they are not the user's.

What a playbook is told besides (pd_mode, pd_twin) is none of them: in an inventory it is unknown.
"""

SECRET = "pd_hub_token"


def load(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> Inventory:
    """Return the validated inventory.

    groups: host names by group; hostvars: every host's variables, templated.
    Raises InvalidInventoryError with all problems that can be seen without planning.
    """
    members = _members(groups, _ours(hostvars))
    on_ray = any(variables.get("pd_stack") == "ray" for variables in hostvars.values())
    problems = _group_problems(groups, members, on_ray=on_ray)
    hosts: list[Host] = []
    spare: list[Host] = []
    read = {name: _settings(name, hostvars[name]) for name, mine in members.items() if mine}
    lent = {name for mine, _ in read.values() if mine for name in further_hosts(mine)}
    for name, mine in members.items():
        if not mine and name not in lent:
            # Somebody else's host, for all we know: what is set for it is not judged.
            address = _address(name, hostvars[name])
            spare.append(Host(name=name, address=address, groups=(), settings=HostSettings()))
            continue
        settings, found = read.get(name) or _settings(name, hostvars[name])
        problems += found
        if settings is not None:
            address = settings.address or _address(name, hostvars[name])
            hosts.append(Host(name=name, address=address, groups=mine, settings=settings))
            problems += _instance_problems(hosts[-1])
    problems += _shared_problems(hosts)
    if problems:
        raise InvalidInventoryError(problems)
    return Inventory(hosts=tuple(hosts), spare=tuple(spare))


def _ours(hostvars: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the groups that mean something: etcd is somebody else's on most stacks."""
    wanted = any(variables.get("pd_stack") == "yuanrong" for variables in hostvars.values())
    return GROUPS if wanted else tuple(g for g in GROUPS if g != "etcd")


def _members(
    groups: Mapping[str, Sequence[str]], ours: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return every host with its groups of ours, in the inventory's order."""
    order = list(groups.get("all", []))
    order += [h for g in ours for h in groups.get(g, []) if h not in order]
    return {host: tuple(g for g in ours if host in groups.get(g, [])) for host in order}


def _group_problems(
    groups: Mapping[str, Sequence[str]], members: Mapping[str, tuple[str, ...]], *, on_ray: bool
) -> list[Problem]:
    """Return what is wrong with the set of groups. on_ray: the router's host is Ray's head."""
    head = "; Ray's head is on it" if on_ray else ""

    def problem(thing: str, cause: str, fix: str) -> Problem:
        return Problem(host="inventory", thing=thing, cause=cause, fix=fix)

    found = []
    count = {group: sum(group in mine for mine in members.values()) for group in GROUPS}
    for group in groups:
        near = get_close_matches(group, GROUPS, n=1, cutoff=0.8)
        if group not in GROUPS and near and not count[near[0]]:
            found.append(
                problem(f"group {group}", "pdinfra has no such group", f"name it {near[0]}")
            )
    if not count["router"]:
        fix = "put one host into the group router"
        found.append(problem("group router", f"no host in it{head}", fix))
    if count["router"] > 1:
        cause = f"{count['router']} hosts in it, a service has one router{head}"
        found.append(problem("group router", cause, "leave one host in the group router"))
    disaggregated = count["prefill"] + count["decode"]
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        if count[other] and not count[role]:
            cause = f"no host in it, but {count[other]} in {other}"
            found.append(problem(f"group {role}", cause, f"put at least one host into {role}"))
    if count["mixed"] and disaggregated:
        cause = "mixed instances cannot share a router with prefill and decode"
        found.append(
            problem("group mixed", cause, "give them a service and an inventory of their own")
        )
    if not count["mixed"] and not disaggregated:
        fix = "put hosts into the groups prefill and decode (or into mixed)"
        found.append(problem("groups prefill, decode", "no host in them", fix))
    return found


def _address(name: str, variables: Mapping[str, Any]) -> str:
    """Return where other hosts reach this one."""
    if variables.get("ansible_host"):
        return str(variables["ansible_host"])
    if variables.get("ansible_connection") == "local" or name in ("localhost", "127.0.0.1"):
        return "127.0.0.1"
    return name


def _settings(name: str, variables: Mapping[str, Any]) -> tuple[HostSettings | None, list[Problem]]:
    """Return one host's settings, or what is wrong with its variables."""
    mine = {k: v for k, v in variables.items() if k.startswith(PREFIX) and k not in INTERNAL}
    try:
        return HostSettings.model_validate(mine), []
    except ValidationError as error:
        return None, [_problem(name, detail) for detail in error.errors()]


def _problem(host: str, detail: ErrorDetails) -> Problem:
    """Turn one of pydantic's findings into one line with a fix."""
    where = [str(part) for part in detail["loc"]]
    thing = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in where).lstrip(".")
    if detail["type"] == "extra_forbidden":
        near = get_close_matches(where[-1], _known(where), n=1, cutoff=0.6)
        fix = (
            f"did you mean {near[0]}?"
            if near
            else "remove it; docs/inventory.md lists all variables"
        )
        return Problem(host=host, thing=thing, cause="unknown variable", fix=fix)
    if detail["type"] == "missing":
        return Problem(host=host, thing=thing, cause="missing", fix=f"set {thing}")
    value = "(hidden)" if thing == SECRET else repr(detail["input"])
    return Problem(
        host=host,
        thing=thing,
        cause=f"{value[:80]} is not valid",
        fix=detail["msg"][:1].lower() + detail["msg"][1:],
    )


def _known(where: Sequence[str]) -> list[str]:
    """Return the variable names that are valid at this place."""
    if len(where) == 1:
        return [f"{PREFIX}{field}" for field in HostSettings.model_fields]
    nested: type[BaseModel] = InstanceEntry if where[0] == "pd_instances" else InstanceSettings
    return list(nested.model_fields)


def _instance_problems(host: Host) -> list[Problem]:
    """Check pd_instances against the groups that the host is in."""
    entries = host.settings.instances
    if entries is None:
        return []
    found = []
    listed = {entry.role for entry in entries}
    for role in ROLES:
        if role in listed and role not in host.roles:
            found.append(
                Problem(
                    host=host.name,
                    thing="pd_instances",
                    cause=f"has a {role} entry, but the host is not in the group {role}",
                    fix=f"add the host to the group {role}, or remove the entry",
                )
            )
        if role in host.roles and role not in listed:
            found.append(
                Problem(
                    host=host.name,
                    thing="pd_instances",
                    cause=f"has no {role} entry, but the host is in the group {role}",
                    fix=f"add an entry with role: {role}, or take the host out of {role}",
                )
            )
    return found


def _shared_problems(hosts: Sequence[Host]) -> list[Problem]:
    """Check what must be the same on every host."""
    found = []
    for field in SERVICE_WIDE:
        values: dict[str, list[str]] = {}
        for host in hosts:
            values.setdefault(str(getattr(host.settings, field)), []).append(host.name)
        if len(values) > 1:
            seen = "; ".join(f"{value} on {names[0]}" for value, names in values.items())
            found.append(
                Problem(
                    host="inventory",
                    thing=f"{PREFIX}{field}",
                    cause=f"differs between hosts: {seen}",
                    fix=f"set {PREFIX}{field} once, in group_vars/all.yml",
                )
            )
    return found
