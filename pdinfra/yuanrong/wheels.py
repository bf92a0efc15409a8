"""A set of wheels, checked by names and checksums before anything of a host is touched."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

NAME = re.compile(
    r"(?P<name>[A-Za-z0-9_.-]+?)-(?P<version>\d[^-]*)(?:-\d[^-]*)?"
    r"-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl"
)
GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")
OLD_MANYLINUX = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WheelFile:
    """A file by name, and what it is by content (64 hex digits)."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Target:
    """Where wheels are installed: ``python`` as cp311, ``machine`` as x86_64 or aarch64."""

    python: str
    machine: str
    glibc: tuple[int, int]


@dataclass(frozen=True)
class _Wheel:
    """A file name, read."""

    file: str
    project: str
    version: str
    pythons: tuple[str, ...]
    platforms: tuple[str, ...]
    hyphenated: bool


def problems(
    files: Iterable[WheelFile],
    projects: Collection[str],
    target: Target,
    checksums: Mapping[str, str],
) -> list[str]:
    """Return everything that is wrong with a set of wheels, each with its fix; empty if it fits.

    ``projects``: which ones make a whole set (table of versions, underscores). ``checksums``: what
    the operator says of each file, by its name.
    """
    given = list(files)
    wheels, found = [], []
    for file in given:
        wheel = _read(file.name)
        if wheel is None:
            found.append(
                f"{file.name} is no wheel's name. Fix: keep the name that it was built with"
            )
            continue
        wheels.append(wheel)
        found += _one(wheel, projects, target)
    found += checksum_problems(given, checksums)
    found += _set(wheels, projects)
    return found


def checksum_problems(files: Collection[WheelFile], checksums: Mapping[str, str]) -> list[str]:
    """Compare what the files are with what the operator says they are."""
    found = []
    names = {file.name for file in files}
    for file in files:
        said = checksums.get(file.name, "").lower()
        if not HEX.fullmatch(said):
            found.append(
                f"{file.name} has no checksum to be held against. "
                "Fix: give its sha256 (64 hex digits) from where you got the file"
            )
        elif said != file.sha256.lower():
            found.append(
                f"{file.name} has sha256 {file.sha256}, not {said}: damaged or another file. "
                "Fix: get it again"
            )
    found += [
        f"{name} has a checksum, but there is no such file. Fix: bring the file, or remove the line"
        for name in sorted(set(checksums) - names)
    ]
    return found


def version(names: Iterable[str]) -> str | None:
    """Return the one version of a set, from its files' names; None if there is not exactly one."""
    versions = {wheel.version for name in names if (wheel := _read(name))}
    return versions.pop() if len(versions) == 1 else None


def _read(name: str) -> _Wheel | None:
    """Read a file's name; a hyphen inside the project's name is read as meant."""
    found = NAME.fullmatch(name)
    if found is None:
        return None
    project = re.sub(r"[-_.]+", "_", found["name"]).lower()
    return _Wheel(
        name,
        project,
        found["version"],
        tuple(found["python"].split(".")),
        tuple(found["platform"].split(".")),
        "-" in found["name"],
    )


def _one(wheel: _Wheel, projects: Collection[str], target: Target) -> list[str]:
    """Check one wheel by itself."""
    found = []
    if wheel.hyphenated:
        right = wheel.file.replace(wheel.file.split(f"-{wheel.version}", 1)[0], wheel.project, 1)
        found.append(
            f"{wheel.file}: pip takes the first hyphen for the end of the name and refuses it. "
            f"Fix: rename it to {right}"
        )
    if wheel.project not in projects:
        found.append(
            f"{wheel.file} is none of {', '.join(sorted(projects))}. Fix: leave it out of the set"
        )
    if not any(tag in wheel.pythons for tag in (target.python, "py3")):
        found.append(
            f"{wheel.file} is for Python {'.'.join(wheel.pythons)}, the image has {target.python}. "
            f"Fix: get the wheel for {target.python}"
        )
    if not any(_runs(platform, target) for platform in wheel.platforms):
        low, high = target.glibc
        found.append(
            f"{wheel.file} is for {'.'.join(wheel.platforms)}, the image is {target.machine} with "
            f"glibc {low}.{high}. Fix: get the wheel for that platform"
        )
    return found


def _runs(platform: str, target: Target) -> bool:
    """Tell whether a platform tag fits (PEP 600: manylinux_A_B needs glibc A.B or newer)."""
    if platform == "any":
        return True
    newer = GLIBC.fullmatch(platform)
    if newer:
        major, minor, machine = newer.groups()
        return machine == target.machine and (int(major), int(minor)) <= target.glibc
    old, _, machine = platform.partition("_")
    if old in OLD_MANYLINUX:
        return machine == target.machine and OLD_MANYLINUX[old] <= target.glibc
    return platform == f"linux_{target.machine}"


def _set(wheels: Iterable[_Wheel], projects: Collection[str]) -> list[str]:
    """Check that the wheels make one whole set of one version."""
    by_project: dict[str, list[_Wheel]] = {name: [] for name in projects}
    for wheel in wheels:
        by_project.setdefault(wheel.project, []).append(wheel)
    found = [
        f"{name} is missing. Fix: bring all of {', '.join(sorted(projects))}, of one version"
        for name in projects
        if not by_project[name]
    ]
    found += [
        f"{name} is there {len(same)} times: {', '.join(wheel.file for wheel in same)}. "
        "Fix: keep one"
        for name, same in by_project.items()
        if len(same) > 1
    ]
    versions = {wheel.version for name in projects for wheel in by_project[name]}
    if len(versions) > 1:
        mixed = ", ".join(
            f"{wheel.project} {wheel.version}" for name in projects for wheel in by_project[name]
        )
        found.append(f"the wheels are of several versions: {mixed}. Fix: bring one version of all")
    return found
