"""The tables of Ray: which vLLM and Python go with it, and which Ray goes with a vLLM."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from pdinfra.model.inventory import Accelerator
from pdinfra.versions import table
from pdinfra.versions.order import order, within
from pdinfra.versions.table import VersionError

BUILT = "2.60.0"
"""Ray in the image that pdinfra builds."""
VERSION = re.compile(r"v?\d+\.\d+[\w.]*")
NAME = re.compile(r"(?:^|/)ray(?:-llm|-ml)?:v?(\d+\.\d+\.\d+)(?!\d)")
LABEL = re.compile(r":(?:[\w.-]*[_.-])?ray[_-]?v?(\d+\.\d+\.\d+)(?!\d)")
PYTHON = re.compile(r":[\w.-]*?(?<![a-z0-9])py(\d)(\d+)(?!\d)")


class Serve(BaseModel):
    """One row of Ray Serve LLM; the fields are explained in ray.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: str
    vllm: str
    exact: bool = False
    pythons: tuple[str, ...]
    source: str


class Measured(BaseModel):
    """A pair that answered here although no package asks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ray: str
    vllm: str
    accelerator: Accelerator
    source: str


class Executor(BaseModel):
    """One row of vLLM's executor on Ray; the fields are explained in ray.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: str
    least: str
    most: str | None = None
    without: str | None = None
    brings: bool
    source: str


@cache
def _tables() -> dict[str, Any]:
    """Return the data file."""
    tables: dict[str, Any] = table.read("ray.yml")
    return tables


@cache
def serve_rows() -> tuple[Serve, ...]:
    """Return the rows of Ray Serve LLM, oldest first."""
    rows = [Serve.model_validate(row) for row in _tables()["serve"]]
    return tuple(sorted(rows, key=lambda row: order(row.since)))


@cache
def measured_pairs() -> tuple[Measured, ...]:
    """Return the pairs that were measured."""
    return tuple(Measured.model_validate(row) for row in _tables()["measured"])


@cache
def executor_rows() -> tuple[Executor, ...]:
    """Return the rows of vLLM's executor on Ray, oldest first."""
    rows = [Executor.model_validate(row) for row in _tables()["executor"]]
    return tuple(sorted(rows, key=lambda row: order(row.since)))


def vllm_of(ray: str, accelerator: Accelerator | None = None) -> tuple[str, ...]:
    """Return the vLLM that Serve LLM of a Ray is made for, then those measured with it.

    accelerator: what the engines run on; None: pairs measured on any count. A Ray newer than the
    table counts as the newest row. Raises VersionError for one that is older, or no version.
    """
    return (_serve(ray).vllm, *_measured(ray, accelerator))


def vllm_words(row: Serve) -> str:
    """Return the releases of vLLM that a row takes: ``0.29.0``, ``0.18.0 up to before 0.22.0``."""
    return row.vllm if row.exact else f"{row.vllm} up to before {_next_vllm(row)}"


def serve_gap(ray: str, vllm: str, accelerator: Accelerator | None = None) -> str | None:
    """Return why Serve LLM of a Ray cannot have a vLLM, and which is right; None if it can.

    accelerator: as for vllm_of(), which says what is raised too.
    """
    row = _serve(ray)
    vllm = _version("vLLM", vllm)
    also = _measured(ray, accelerator)
    if _takes(row, vllm) or order(vllm) in [order(version) for version in also]:
        return None
    newest = serve_rows()[-1].since
    beyond = order(ray) > order(newest)
    known = f" (as far as pdinfra knows: up to Ray {newest})" if beyond else ""
    fix = " or ".join([f"use vLLM {vllm_words(row)}", *also])
    others = _rays_for(vllm, accelerator)
    return (
        f"Ray Serve LLM of Ray {ray} is made for vLLM {vllm_words(row)}{known}, this is {vllm}. "
        f"Fix: {fix}" + (f"; or Ray {others[-1]}, which goes with vLLM {vllm}" if others else "")
    )


def python_gap(ray: str, python: str) -> str | None:
    """Return why a Ray cannot be had for a Python (``3.11``), and which is right; None if it can.

    Raises VersionError as vllm_of() does.
    """
    known = _serve(ray).pythons
    if python in known:
        return None
    return (
        f"Ray {ray} has no package for Python {python}. Fix: use Python {known[0]} to {known[-1]}"
    )


def executor_gap(ray: str, vllm: str) -> str | None:
    """Return why a vLLM cannot run its engines on a Ray, and which is right; None if it can.

    Raises VersionError for a vLLM older than the table, and for what is no version.
    """
    row = _executor(vllm)
    ray = _version("Ray", ray)
    if _fits(row, ray):
        return None
    return (
        f"vLLM {vllm} cannot run its engines on Ray {ray} (distributed_executor_backend ray). "
        f"Fix: use Ray {ray_words(row)}"
    )


def brings_ray(vllm: str) -> bool:
    """Tell whether vLLM's package for CUDA requires Ray, so that its own images have it.

    Raises VersionError as executor_gap() does.
    """
    return _executor(vllm).brings


def ray_words(row: Executor) -> str:
    """Return the Ray that a row takes: ``2.43.0 or newer, but no 2.44``."""
    if row.most == row.least:
        return row.least
    return f"{row.least} or newer" + (f", but no {row.without}" if row.without else "")


def versions_in(image: str) -> tuple[str | None, str | None]:
    """Return Ray and Python as an image's name tells: ``rayproject/ray-llm:2.60.0-py311-cu128``.

    That is ("2.60.0", "3.11"); None for what it does not tell. Ray's own images tell it first in
    their tag; others as ``ray-2.60.0`` in it. vllm/vllm-openai:v0.11.0 tells neither.
    """
    ray = NAME.search(image) or LABEL.search(image)
    python = PYTHON.search(image)
    return ray.group(1) if ray else None, ".".join(python.groups()) if python else None


def _version(what: str, version: str) -> str:
    """Return a version as the tables write it, without v. Raises VersionError: it is none."""
    if not VERSION.fullmatch(version):
        newest = serve_rows()[-1]
        example = newest.since if what == "Ray" else newest.vllm
        raise VersionError(f"{version!r} is no release of {what}. Fix: name one, such as {example}")
    return version.removeprefix("v")


def _serve(ray: str) -> Serve:
    """Return the row of a Ray. Raises VersionError."""
    rows = serve_rows()
    limit = order(_version("Ray", ray))
    known = [row for row in rows if order(row.since) <= limit]
    if not known:
        releases = ", ".join(row.since for row in rows)
        raise VersionError(
            f"Ray {ray} has no Ray Serve LLM that pdinfra knows. Fix: use one of: {releases}"
        )
    return known[-1]


def _executor(vllm: str) -> Executor:
    """Return the row of a vLLM. Raises VersionError."""
    rows = executor_rows()
    limit = order(_version("vLLM", vllm))
    known = [row for row in rows if order(row.since) <= limit]
    if not known:
        raise VersionError(
            f"which Ray vLLM {vllm} needs is in no table. Fix: use vLLM {rows[0].since} or newer"
        )
    return known[-1]


def _measured(ray: str, accelerator: Accelerator | None) -> list[str]:
    """Return the vLLM that were measured with just this Ray."""
    return [
        pair.vllm
        for pair in measured_pairs()
        if order(pair.ray) == order(ray) and accelerator in (None, pair.accelerator)
    ]


def _next_vllm(row: Serve) -> str:
    """Return the vLLM that the next Ray with another one than this row's asks for."""
    newer = [each for each in serve_rows() if order(each.vllm) > order(row.vllm)]
    return newer[0].vllm


def _takes(row: Serve, vllm: str) -> bool:
    """Tell whether a row takes a vLLM."""
    if row.exact:
        return order(vllm) == order(row.vllm)
    return order(row.vllm) <= order(vllm) < order(_next_vllm(row))


def _fits(row: Executor, ray: str) -> bool:
    """Tell whether a row takes a Ray."""
    if row.without is not None and within(ray, row.without, row.without):
        return False
    newest = row.most or ray
    return order(row.least) <= order(ray) <= order(newest)


def _rays_for(vllm: str, accelerator: Accelerator | None) -> list[str]:
    """Return releases of Ray whose Serve LLM goes with a vLLM, oldest first."""
    made = [row.since for row in serve_rows() if _takes(row, vllm)]
    measured = [
        pair.ray
        for pair in measured_pairs()
        if order(pair.vllm) == order(vllm) and accelerator in (None, pair.accelerator)
    ]
    return sorted([*made, *measured], key=order)
