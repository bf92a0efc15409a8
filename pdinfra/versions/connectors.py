"""The table of KV connectors."""

from __future__ import annotations

from functools import cache

from pydantic import BaseModel, ConfigDict

from pdinfra.model.inventory import Accelerator, Stack
from pdinfra.versions import table

MULTI = "MultiConnector"
"""Hands KV over by the first of several connectors that has it."""


class Connector(BaseModel):
    """One row: a connector class, what drives it, where it works, and how we know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str | None = None
    protocol: str | None
    router: bool = False
    inside: bool = False
    stack: Stack = "native"
    use: str | None = None
    accelerators: tuple[Accelerator, ...]
    source: str


@cache
def connectors() -> dict[str, Connector]:
    """Return the table by class name."""
    rows = [Connector.model_validate(row) for row in table.read("connectors.yml")]
    return {row.name: row for row in rows}


def usable(stack: Stack, accelerator: Accelerator) -> list[Connector]:
    """Return the connectors that pdinfra can drive there."""
    rows = connectors().values()
    return [r for r in rows if r.protocol and r.stack == stack and accelerator in r.accelerators]


def of_family(word: str, accelerator: Accelerator) -> list[Connector]:
    """Return a family's classes on an accelerator, drivable or not; empty: no such family there."""
    rows = connectors().values()
    return [row for row in rows if row.family == word and accelerator in row.accelerators]
