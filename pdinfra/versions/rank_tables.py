"""The table of rank tables: which format an engine reads, by stack, connector and version."""

from __future__ import annotations

from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pdinfra.model.inventory import Stack
from pdinfra.versions import table
from pdinfra.versions.order import order

Format = Literal["ascendcloud", "hccl-1.0", "hccl-1.2", "vllm-ascend"]


class RankTable(BaseModel):
    """One row; the fields are explained in rank_tables.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack: Stack
    connector: str | None
    since: str | None
    super_pod: bool | None
    format: Format | None
    use: str | None = None
    environment: tuple[str, ...]
    source: str


@cache
def rank_tables() -> tuple[RankTable, ...]:
    """Return the table in its own order."""
    return tuple(RankTable.model_validate(row) for row in table.read("rank_tables.yml"))


def rank_table(
    stack: Stack, connector: str | None = None, image: str = "", *, super_pod: bool = False
) -> RankTable | None:
    """Return the row that holds for an engine; None where nothing tells what it reads.

    A connector of its own goes before the rows for any. An image whose tag tells no version (or a
    version before the connector's first row) is unknown to a row that asks for one.
    """
    rows = [
        row for row in rank_tables() if row.stack == stack and row.super_pod in (None, super_pod)
    ]
    own = [row for row in rows if row.connector is not None and row.connector == connector]
    version = table.vllm_ascend(image)
    known = [
        row
        for row in own or [row for row in rows if row.connector is None]
        if row.since is None or (version is not None and order(row.since) <= order(version))
    ]
    return max(known, key=lambda row: order(row.since or ""), default=None)
