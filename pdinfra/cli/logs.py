"""`logs`: what an instance's container says, wherever it runs."""

from __future__ import annotations

import json as jsonlib
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pdinfra.cli.options import DEFAULT_INVENTORY, InventoryOption, LimitOption, reported, run
from pdinfra.driver.look import INVALID, DriverError, Look, look

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
        seen = look(run("playbooks/look.yml", inventory, limit))
        host, container = _find(seen, instance)
    command = ["docker", "logs", "--tail", str(tail), *(["--follow"] if follow else []), container]
    raise typer.Exit(subprocess.run([*_remote(inventory, host), *command], check=False).returncode)


def _find(seen: Look, instance: str) -> tuple[str, str]:
    """Return host and container of an id. Raises DriverError with the ids that there are."""
    for host in seen.plan.hosts:
        for container in host.containers:
            if container.id == instance:
                return host.name, container.name
    known = ", ".join(c.id for host in seen.plan.hosts for c in host.containers)
    raise DriverError([f"{instance}: no such instance. Fix: use one of {known}"], INVALID)


def _remote(inventory: Path, host: str) -> list[str]:
    """Return what goes before a command so that it runs on a host: nothing, or ssh."""
    tool = Path(sys.executable).with_name("ansible-inventory")
    command = [str(tool), "-i", str(inventory), "--host", host]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    variables: dict[str, Any] = jsonlib.loads(found)
    if variables.get("ansible_connection") == LOCAL:
        return []
    address = str(variables.get("ansible_host", host))
    user = variables.get("ansible_user")
    ssh = ["ssh", *(["-i", key] if (key := variables.get("ansible_ssh_private_key_file")) else [])]
    ssh += str(variables.get("ansible_ssh_common_args", "")).split()
    ssh += ["-p", str(variables.get("ansible_port", 22)), f"{user}@{address}" if user else address]
    return [*ssh, "sudo"] if variables.get("ansible_become") else ssh
