"""Thin shell: filters for the playbooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pdinfra.model.plan import RayCluster
from pdinfra.planning.ray_count import missing
from pdinfra.planning.waiting import waiting
from pdinfra.reading import registry
from pdinfra.reading.host import container_facts
from pdinfra.reading.ray import cluster_seen


def pdinfra_waiting(raw: Mapping[str, Any], ids: list[str]) -> dict[str, Any]:
    """Return which containers are still coming and which are lost."""
    return waiting(ids, container_facts(raw)).model_dump(mode="json")


def pdinfra_transfer(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return how far images on their way are, and which failed."""
    return registry.transfers(raw).model_dump(mode="json")


def pdinfra_unpublished(raw: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return which images a registry misses, and which questions it did not answer."""
    return {"missing": registry.missing(raw), "unanswered": registry.unanswered(raw)}


def pdinfra_ray_missing(status: str, ray: str) -> str:
    """Return what a cluster, the plan's as JSON, lacks by its `ray status`; empty: nothing."""
    return missing(RayCluster.model_validate_json(ray), cluster_seen(status))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "pdinfra_ray_missing": pdinfra_ray_missing,
            "pdinfra_transfer": pdinfra_transfer,
            "pdinfra_unpublished": pdinfra_unpublished,
            "pdinfra_waiting": pdinfra_waiting,
        }
