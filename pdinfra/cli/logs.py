"""`logs`: what an instance's container says, wherever it runs."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pdinfra.cli.options import DEFAULT_INVENTORY, InventoryOption, LimitOption, reported, run
from pdinfra.driver.hosts import connections
from pdinfra.driver.look import INVALID, DriverError, planned
from pdinfra.model.plan import Plan

LOCAL = "local"


def logs(
    instance: Annotated[str, typer.Argument(help="Id of an instance (see status), or router.")],
    inventory: InventoryOption = DEFAULT_INVENTORY,
    limit: LimitOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", help="Only so many last lines.")] = 100,
) -> None:
    """Show the log of one instance or the router."""
    with reported(as_json=False):
        # No host is looked at: the others may be down, that may be why somebody reads a log.
        host, container = _find(planned(run("playbooks/validate.yml", inventory, limit)), instance)
    command = ["docker", "logs", "--tail", str(tail), *(["--follow"] if follow else []), container]
    reach = _reach(host, connections(inventory)[host])
    raise typer.Exit(subprocess.run([*reach, *command], check=False).returncode)


def _find(plan: Plan, instance: str) -> tuple[str, str]:
    """Return host and container of an id. Raises DriverError with the ids that there are."""
    containers = [container for host in plan.hosts for container in host.containers]
    for container in containers:
        if container.id == instance:
            return container.host, container.name
    known = ", ".join(container.id for container in containers)
    raise DriverError([f"{instance}: no such instance. Fix: use one of {known}"], INVALID)


def _reach(host: str, variables: Mapping[str, Any]) -> list[str]:
    """Return what goes before a command so that it runs on a host: nothing, or ssh."""
    if variables.get("ansible_connection") == LOCAL:
        return []
    key = variables.get("ansible_ssh_private_key_file") or variables.get("ansible_private_key_file")
    address, user = str(variables.get("ansible_host", host)), variables.get("ansible_user")
    ssh = ["ssh", *(["-i", str(key)] if key else [])]
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        ssh += shlex.split(str(variables.get(name, "")))
    ssh += ["-p", str(variables.get("ansible_port", 22)), f"{user}@{address}" if user else address]
    return [*ssh, "sudo"] if variables.get("ansible_become") else ssh
