"""The table of vllm-ascend's own connectors from prefill to decode, by image."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pdinfra.versions import table
from pdinfra.versions.order import order
from pdinfra.versions.table import VersionError


class Variant(BaseModel):
    """A connector as some images have it; the fields are explained in vllm_ascend.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connector: str
    since: str
    use: str | None = None
    module: str | None = None
    port: str | None = None
    address: str | None = None
    config: dict[str, Any] = {}
    rank: bool = False
    sizes: bool = False
    extra: dict[str, Any] = {}
    environment: dict[str, str] = {}
    roce: bool = False
    physical: str | None = None
    uncached: tuple[Literal["prefill", "decode"], ...] = ()
    source: str


@cache
def variants() -> tuple[Variant, ...]:
    """Return the table, each connector's rows oldest first."""
    rows = [Variant.model_validate(row) for row in table.read("vllm_ascend.yml")]
    return tuple(sorted(rows, key=lambda row: (row.connector, order(row.since))))


def variant(connector: str, image: str) -> Variant:
    """Return how an image has a connector. Raises VersionError: it has not, or tells no version."""
    version = table.vllm_ascend(image)
    images = f"an image of vllm-ascend {_span(connector)}"
    if version is None:
        raise VersionError(
            f"its name tells no version of vllm-ascend, and {connector} differs by version. "
            f"Fix: use {images}, named as quay.io/ascend/vllm-ascend:VERSION (`docker tag`)"
        )
    rows = [row for row in variants() if row.connector == connector]
    known = [row for row in rows if order(row.since) <= order(version)]
    if not known:
        raise VersionError(
            f"vllm-ascend {version} does not have {connector} yet. Fix: use {images}"
        )
    if known[-1].use is not None:
        raise VersionError(
            f"vllm-ascend {known[-1].since} removed {connector}. "
            f"Fix: set pd_connector to {known[-1].use}, or use {images}"
        )
    return known[-1]


def has(connector: str, version: str) -> bool:
    """Tell whether a version of vllm-ascend has a connector."""
    rows = [row for row in variants() if row.connector == connector]
    known = [row for row in rows if order(row.since) <= order(version)]
    return bool(known) and known[-1].use is None


def _span(connector: str) -> str:
    """Return the versions that have a connector, in words."""
    rows = [row for row in variants() if row.connector == connector]
    gone = [row.since for row in rows if row.use is not None]
    return f"from {rows[0].since} on" + (f", before {gone[0]}" if gone else "")
