"""Settings that mean something to one stack, given on another."""

from __future__ import annotations

from pdinfra.model.inventory import Inventory, Stack
from pdinfra.model.problems import Problem

ONLY: dict[str, Stack] = {
    "prefill_batching_policy": "ascendcloud",
    "prefill_routing_policy": "ascendcloud",
    "llm_tools_path": "ascendcloud",
    "container_user": "ascendcloud",
    "ray_mode": "ray",
    "ray_version": "ray",
    "ray_min_replicas": "ray",
    "ray_object_store_gib": "ray",
    "ray_dashboard_address": "ray",
    "ray_ports": "ray",
}


def stack_only_problems(inventory: Inventory) -> list[Problem]:
    """Refuse what would silently change nothing."""
    return [
        Problem(
            host=host.name,
            thing=f"pd_{name}",
            cause=f"is of stack {stack}, this is {inventory.service.stack}",
            fix="remove it",
        )
        for host in inventory.hosts
        for name, stack in ONLY.items()
        if name in host.settings.model_fields_set and stack != inventory.service.stack
    ]
