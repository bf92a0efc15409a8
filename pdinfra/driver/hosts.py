"""The hosts of an inventory, without looking at one of them: their plans, how to reach them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pdinfra.driver.look import look, planned
from pdinfra.driver.run import environment, run_playbook
from pdinfra.model.plan import HostPlan

CONNECTION = (
    "ansible_become",
    "ansible_become_user",
    "ansible_connection",
    "ansible_host",
    "ansible_port",
    "ansible_private_key_file",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_private_key_file",
    "ansible_user",
)
"""What says how a host is reached. No secrets: those stay with Ansible."""

LOCAL = "local"


def planned_hosts(inventory: Path, limit: str | None) -> tuple[HostPlan, ...]:
    """Return the plans of the hosts that a limit (Ansible's pattern) leaves.

    Raises DriverError with every problem of the inventory, or if no host is left.
    """
    plan = planned(run_playbook("playbooks/validate.yml", inventory, limit=limit))
    if plan.accelerator != "cpu" or any(instance.parts for instance in plan.instances):
        # What containers mount, read and are told of interfaces is known when hosts were looked at.
        plan = look(run_playbook("playbooks/look.yml", inventory, limit=limit)).plan
    if limit is None:
        return plan.hosts
    chosen = {host.name for host in _inventory(inventory, limit)[0].get_hosts()}
    return tuple(host for host in plan.hosts if host.name in chosen)


def connections(inventory: Path) -> dict[str, dict[str, Any]]:
    """Return each host's connection variables as Ansible itself would use them."""
    manager, variables = _inventory(inventory, None)
    return {
        host.name: _templated(variables.get_vars(host=host), variables)
        for host in manager.get_hosts()
    }


def on_host(host: str, variables: Mapping[str, Any], command: Sequence[str]) -> list[str]:
    """Return a command that runs another one on a host: as it is, or over ssh.

    variables: the host's own of :func:`connections`.
    """
    if variables.get("ansible_connection") == LOCAL:
        return list(command)
    key = variables.get("ansible_ssh_private_key_file") or variables.get("ansible_private_key_file")
    address, user = str(variables.get("ansible_host", host)), variables.get("ansible_user")
    ssh = ["ssh", *(["-i", str(key)] if key else [])]
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        ssh += shlex.split(str(variables.get(name, "")))
    ssh += ["-p", str(variables.get("ansible_port", 22)), f"{user}@{address}" if user else address]
    become = ["sudo"] if variables.get("ansible_become") else []
    # ssh hands one line to a shell over there.
    return [*ssh, shlex.join([*become, *command])]


def _inventory(inventory: Path, limit: str | None) -> tuple[Any, Any]:
    """Return Ansible's inventory and the manager of its variables."""
    # Ansible reads its configuration when it is imported.
    os.environ.update(environment())
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.vars.manager import VariableManager

    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(inventory.resolve())])
    manager.subset(limit)
    return manager, VariableManager(loader=loader, inventory=manager)


def _templated(mine: Mapping[str, Any], variables: Any) -> dict[str, Any]:
    """Return the connection variables with their templates filled in."""
    from ansible.template import Templar

    templar = Templar(loader=variables._loader, variables=mine)
    return {name: templar.template(mine[name]) for name in CONNECTION if name in mine}
