"""Changes: plan minus facts, as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Action = Literal["create", "replace", "keep", "remove"]
Kind = Literal[
    "host",
    "driver",
    "engine",
    "runtime",
    "image",
    "model",
    "certificate",
    "ranktable",
    "etcd",
    "worker",
    "master",
    "agent",
    "head",
    "node",
    "instance",
    "router",
    "member",
    "deployment",
]
"""In the order in which a host is converged."""
ACTIONS: tuple[Action, ...] = ("create", "replace", "keep", "remove")


class FieldChange(BaseModel):
    """One field that differs."""

    model_config = ConfigDict(frozen=True)

    field: str
    old: str
    new: str

    def __str__(self) -> str:
        """Return ``field: old → new``."""
        return f"{self.field}: {self.old} → {self.new}"


class Change(BaseModel):
    """What happens to one thing on one host, and why.

    ``keep`` is only listed for containers: what a host needs besides (its basics, driver, engine,
    image, model, ...) is listed when it is to be made. ``member`` is an instance that joins or
    leaves the router, ``deployment`` the engines that openYuanrong's full mode has as its actors.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    kind: Kind
    id: str
    action: Action
    reason: str
    fields: tuple[FieldChange, ...] = ()
    container: str = Field("", description="The real name of a container to remove.")


def summary(changes: Iterable[Change]) -> dict[str, int]:
    """Count the changes by action; every action is a key."""
    counts: dict[str, int] = dict.fromkeys(ACTIONS, 0)
    for change in changes:
        counts[change.action] += 1
    return counts


def document(changes: Iterable[Change]) -> dict[str, Any]:
    """Return the ``plan --json`` document."""
    listed = list(changes)
    return {"changes": [c.model_dump(mode="json") for c in listed], "summary": summary(listed)}
