"""The table of drivers that vllm-ascend images ask for."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict

from pdinfra.versions.order import order

TAG = re.compile(r"/vllm-ascend:(v\d[\w.]*)")


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
    text = files("pdinfra.versions").joinpath("ascend_drivers.yml").read_text(encoding="utf-8")
    rows = [AscendDriver.model_validate(row) for row in yaml.safe_load(text)]
    return tuple(sorted(rows, key=lambda row: order(row.image)))


def wanted_driver(image: str) -> AscendDriver | None:
    """Return the row of an image by its name and tag; None for images that nobody documents."""
    tag = TAG.search(image)
    if tag is None:
        return None
    known = [row for row in ascend_drivers() if order(row.image) <= order(tag.group(1))]
    return known[-1] if known else None
