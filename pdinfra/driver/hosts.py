"""The hosts of an inventory, without looking at one of them: their plans, how to reach them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdinfra.driver.look import planned
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


def planned_hosts(inventory: Path, limit: str | None) -> tuple[HostPlan, ...]:
    """Return the plans of the hosts that a limit (Ansible's pattern) leaves.

    Raises DriverError with every problem of the inventory, or if no host is left.
    """
    plan = planned(run_playbook("playbooks/validate.yml", inventory, limit=limit))
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
