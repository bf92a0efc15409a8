"""The table of drivers that vllm-ascend images ask for."""

from __future__ import annotations

from functools import cache

from pydantic import BaseModel, ConfigDict

from pdinfra.versions import table
from pdinfra.versions.order import order


class AscendDriver(BaseModel):
    """One row: what images of this version and later ask for, and how we know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    minimum: str | None
    recommended: str | None
    source: str


@cache
def ascend_drivers() -> tuple[AscendDriver, ...]:
    """Return the table, oldest image first."""
    rows = [AscendDriver.model_validate(row) for row in table.read("ascend_drivers.yml")]
    return tuple(sorted(rows, key=lambda row: order(row.image)))


def wanted_driver(image: str) -> AscendDriver | None:
    """Return the row of an image by its name and tag; None for images that nobody documents."""
    version = table.vllm_ascend(image)
    if version is None:
        return None
    known = [row for row in ascend_drivers() if order(row.image) <= order(version)]
    return known[-1] if known else None
