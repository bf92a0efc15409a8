"""The table of vLLM's own connectors from prefill to decode, by vLLM's version."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pdinfra.versions import table
from pdinfra.versions.order import order
from pdinfra.versions.table import VersionError

BUILT = "0.32.0"
"""vLLM in the image that pdinfra builds."""
NUMBER = re.compile(r"(?<![\w.])v?(\d+\.\d+\.\d+)(?:\.post\d+|rc\d+)?(?![\d.])")


class Part(BaseModel):
    """What an engine is told; texts in braces are the plan's (pdinfra/stacks/kv_transfer.py)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    environment: dict[str, str] = {}
    args: tuple[str, ...] = ()


class Variant(Part):
    """A connector as some releases of vLLM have it; the fields are explained in vllm.yml."""

    connector: str
    since: str
    because: str = ""
    use: str | None = None
    protocol: str | None = None
    ports: dict[str, int] = {}
    pair: bool = False
    waits: bool = False
    equal: bool = False
    spans: bool = False
    shared: bool = False
    whole: bool = False
    shortest: int = 0
    address: dict[str, str] = {}
    parts: dict[str, Part] = {}
    source: str


class Feature(BaseModel):
    """What engines can do since a release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature: Literal["several hosts"]
    since: str
    source: str


@cache
def several_hosts_since() -> str:
    """Return the first release whose engines go over several hosts without Ray."""
    rows = [Feature.model_validate(row) for row in table.read("vllm_features.yml")]
    return next(row.since for row in rows if row.feature == "several hosts")


@cache
def variants() -> tuple[Variant, ...]:
    """Return the table, each connector's rows oldest first."""
    rows = [Variant.model_validate(row) for row in table.read("vllm.yml")]
    return tuple(sorted(rows, key=lambda row: (row.connector, order(row.since))))


def vllm_version(image: str) -> str | None:
    """Return the version of vLLM that an image's name tells: ``llm:vllm-server-0.8.5-cu128``.

    None: its name has no vllm in it, or no version after that.
    """
    _, vllm, rest = image.partition("vllm")
    found = NUMBER.search(rest) if vllm else None
    return found.group(1) if found else None


def variant(connector: str, version: str) -> Variant:
    """Return how a release has a connector. Raises VersionError: it has not."""
    rows = [row for row in variants() if row.connector == connector]
    known = _until(connector, version)
    if not known:
        raise VersionError(
            f"vLLM {version} does not have {connector} yet, or in a form that pdinfra drives. "
            f"Fix: use an image of vLLM {_span(rows)}, or one of: {', '.join(_all(version))}"
        )
    row = known[-1]
    if row.use is not None:
        gone = "" if row.since == version else f", this is {version}"
        raise VersionError(
            f"vLLM {row.since} {row.because}{gone}. "
            f"Fix: set pd_connector to {row.use}, or use an image of vLLM {_span(rows)}"
        )
    return row


def usable_in(connector: str) -> str:
    """Return the releases in which a connector can be used: ``from 0.9.2 on, before 0.14.0``."""
    return _span([row for row in variants() if row.connector == connector])


def has(connector: str, version: str) -> bool:
    """Tell whether a release has a connector."""
    known = _until(connector, version)
    return bool(known) and known[-1].use is None


@cache
def _until(connector: str, version: str) -> tuple[Variant, ...]:
    """Return a connector's rows up to a release, oldest first."""
    limit = order(version)
    return tuple(r for r in variants() if r.connector == connector and order(r.since) <= limit)


def _span(rows: list[Variant]) -> str:
    """Return the releases in which a connector can be used, in words."""
    spans: list[list[str]] = []
    for row in rows:
        if row.use is None and (not spans or len(spans[-1]) == 2):
            spans.append([row.since])
        elif row.use is not None and spans and len(spans[-1]) == 1:
            spans[-1].append(row.since)
    return " or ".join(
        f"from {span[0]} on" + (f", before {span[1]}" if len(span) == 2 else "") for span in spans
    )


def _all(version: str) -> list[str]:
    """Return the connectors that can be used in a release."""
    return [name for name in {row.connector: None for row in variants()} if has(name, version)]
