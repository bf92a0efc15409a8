"""The tables of openYuanrong: its own releases, and what vllm-ascend images can do with it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pdinfra.versions import table
from pdinfra.versions.order import order
from pdinfra.versions.table import VersionError
from pdinfra.yuanrong.commands import Dialect

ConfigSource = Literal["DS_WORKER_ADDR", "YR_CONFIG_PATH"]

DATASYSTEM = "0.8.1"
"""The data system in pdinfra's image `yuanrong`."""
TAG = re.compile(r"/vllm-ascend:(?:(v\d[\w.]*)|(main|nightly)\b)")
VERSION = re.compile(r"\d+\.\d+[\w.]*")


class Release(BaseModel):
    """One row of openYuanrong itself; the fields are explained in yuanrong.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    dialect: Dialect
    wheels: tuple[str, ...]
    client: str
    install_dir: str
    library_dir: str
    log_dir: str
    agents: str
    session: bool
    source: str


class Engine(BaseModel):
    """One row of vllm-ascend; the fields are explained in yuanrong.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    only: bool = False
    connector: str | None
    backend: str | None = None
    patch: bool = False
    config: ConfigSource | None = None
    datasystem: tuple[str, str | None] | None = None
    python: str | None = None
    glibc: tuple[int, int] | None = None
    source: str


@cache
def _tables() -> dict[str, Any]:
    """Return the data file."""
    tables: dict[str, Any] = table.read("yuanrong.yml")
    return tables


@cache
def releases() -> tuple[Release, ...]:
    """Return openYuanrong's rows, oldest first."""
    rows = [Release.model_validate(row) for row in _tables()["releases"]]
    return tuple(sorted(rows, key=lambda row: order(row.version)))


@cache
def engines() -> tuple[Engine, ...]:
    """Return vllm-ascend's rows, oldest first."""
    rows = [Engine.model_validate(row) for row in _tables()["engines"]]
    return tuple(sorted(rows, key=lambda row: order(row.image)))


def default_ports() -> dict[str, int]:
    """Return the ports that openYuanrong would take, by component."""
    return dict(_tables()["ports"])


def release(version: str) -> Release:
    """Return the row of a version. Raises VersionError for what is older than the oldest row."""
    known = [row for row in releases() if order(row.version) <= order(version)]
    if not known or not VERSION.fullmatch(version):
        oldest = releases()[0].version
        raise VersionError(
            f"openYuanrong {version!r} is in no table. Fix: use {oldest} or newer, such as 0.8.1"
        )
    return known[-1]


def engine(image: str) -> Engine:
    """Return what an image can do with openYuanrong.

    Takes a name with its tag, as quay.io/ascend/vllm-ascend:v0.23.0-a3-openeuler, or a bare
    version. Raises VersionError for an image that nobody documents or that has no connector.
    """
    version = _tag(image)
    rows = [
        row
        for row in engines()
        if order(row.image) <= order(version)
        and (not row.only or order(row.image) == order(version))
    ]
    if not rows or rows[-1].connector is None:
        raise VersionError(
            f"vllm-ascend {version} has no connector for openYuanrong. Fix: use {_choices()}"
        )
    return rows[-1]


def datasystem_problem(image: str, datasystem: str) -> str | None:
    """Return why an image does not work with a version of the data system; None if it should.

    Raises VersionError as engine() does.
    """
    row = engine(image)
    if row.datasystem is None:
        return None
    low, high = row.datasystem
    if order(datasystem) < order(low):
        return (
            f"{row.connector} of vllm-ascend {_tag(image)} calls what openyuanrong-datasystem "
            f"{datasystem} does not have. Fix: use {low} or newer"
        )
    if high is not None and order(datasystem) >= order(high):
        return (
            f"{row.connector} of vllm-ascend {_tag(image)} calls what openyuanrong-datasystem "
            f"{datasystem} no longer has. Fix: use one from {low} up to, not including, {high}"
        )
    return None


def _tag(image: str) -> str:
    """Return the version in an image's name. Raises VersionError."""
    if re.fullmatch(r"v?\d+\.\d+\S*", image):
        return image if image.startswith("v") else f"v{image}"
    found = TAG.search(image)
    if found is None:
        raise VersionError(
            f"{image!r} is not an image of vllm-ascend with its version. "
            f"Fix: name it as quay.io/ascend/vllm-ascend:VERSION with {_choices()}"
        )
    return found.group(1) or engines()[-1].image


def _choices() -> str:
    """Return the versions that have a connector, for a message."""
    usable = [row for row in engines() if row.connector]
    return ", ".join(f"{row.image}{'' if row.only else ' or newer'}" for row in usable)
