"""`logs`: what an instance's container says, wherever it runs."""

from __future__ import annotations

import subprocess
from typing import Annotated

import typer

from pdinfra.cli.options import DEFAULT_INVENTORY, InventoryOption, LimitOption, reported, run
from pdinfra.driver.hosts import connections, on_host
from pdinfra.driver.look import INVALID, DriverError, planned
from pdinfra.model.plan import Plan


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
    there = on_host(host, connections(inventory)[host], command)
    raise typer.Exit(subprocess.run(there, check=False).returncode)


def _find(plan: Plan, instance: str) -> tuple[str, str]:
    """Return host and container of an id. Raises DriverError with the ids that there are."""
    containers = [container for host in plan.hosts for container in host.containers]
    for container in containers:
        if container.id == instance:
            return container.host, container.name
    known = ", ".join(container.id for container in containers)
    raise DriverError([f"{instance}: no such instance. Fix: use one of {known}"], INVALID)
