"""The table of KV connectors."""

from __future__ import annotations

from functools import cache

from pydantic import BaseModel, ConfigDict

from pdinfra.model.inventory import Accelerator, Stack
from pdinfra.versions import table


class Connector(BaseModel):
    """One row: a connector class, what drives it, where it works, and how we know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    protocol: str | None
    stack: Stack = "native"
    use: str | None = None
    accelerators: tuple[Accelerator, ...]
    source: str


@cache
def connectors() -> dict[str, Connector]:
    """Return the table by class name."""
    rows = [Connector.model_validate(row) for row in table.read("connectors.yml")]
    return {row.name: row for row in rows}
