"""A Ray cluster as `ray status` counts it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ClusterSeen(BaseModel):
    """How many nodes are in the cluster now, and what they say they have together."""

    model_config = ConfigDict(frozen=True)

    nodes: int
    resources: dict[str, float]
