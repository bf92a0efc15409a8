"""Driver and firmware of accelerators: which packages, what differs, in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pdinfra.model.changes import Change
from pdinfra.model.facts import DriverFact
from pdinfra.model.inventory import Accelerator, Host
from pdinfra.model.plan import DriverKind, DriverPackage, DriverPlan, HostPlan
from pdinfra.model.problems import Problem

KINDS: tuple[DriverKind, ...] = ("driver", "firmware")
FIRST_INSTALL: tuple[DriverKind, ...] = ("driver", "firmware")
UPGRADE: tuple[DriverKind, ...] = ("firmware", "driver")
"""Both orders: the vendor's guide; ascend-deployer does the same, by whether a driver is there."""
REBOOT = "reboot"
"""Id of the change that puts in force what is installed."""
NAMES: dict[DriverKind, re.Pattern[str]] = {
    "driver": re.compile(
        r"npu-driver_(?P<version>\d[^_/]*)_linux-(?P<arch>x86[-_]64|aarch64)\.run$"
    ),
    "firmware": re.compile(r"npu-firmware_(?P<version>\d[^_/]*)\.run$"),
}
"""The vendor's file names: Ascend-hdk-910b-npu-driver_25.0.rc1.1_linux-aarch64.run."""


class DriverStep(BaseModel):
    """One package to run, and how: ``full`` where none of its kind is, ``upgrade`` over one."""

    model_config = ConfigDict(frozen=True)

    package: DriverPackage
    mode: Literal["full", "upgrade"]


class DriverWork(BaseModel):
    """What the driver's role does, in order.

    ``waiting``: something is installed that a reboot must put in force before all else.
    """

    model_config = ConfigDict(frozen=True)

    steps: tuple[DriverStep, ...] = ()
    waiting: bool = False
    on_host: bool = False
    reboot_allowed: bool = False


def driver_plan(host: Host, accelerator: Accelerator) -> tuple[DriverPlan | None, list[Problem]]:
    """Return the packages that a host must have, and what is wrong with its variables."""
    settings = host.settings
    packages = []
    problems = []
    for kind in KINDS:
        if getattr(settings, f"{kind}_package") is None:
            continue
        package, found = _package(host, kind, accelerator)
        problems += found
        packages += [package] if package else []
    if not packages:
        return None, problems
    plan = DriverPlan(
        packages=tuple(packages),
        on_host=settings.packages_on_host,
        reboot_allowed=settings.reboot_allowed,
    )
    return plan, problems


def _package(
    host: Host, kind: DriverKind, accelerator: Accelerator
) -> tuple[DriverPackage | None, list[Problem]]:
    """Return one package by the variables of its kind, or what is wrong with them."""
    path: str = getattr(host.settings, f"{kind}_package")
    sha256: str | None = getattr(host.settings, f"{kind}_sha256")
    named = NAMES[kind].search(path)
    given: str | None = getattr(host.settings, f"{kind}_version")
    version = given or (named["version"] if named else None)
    problems = []

    def problem(variable: str, cause: str, fix: str) -> None:
        thing = f"pd_{kind}_{variable}"
        problems.append(Problem(host=host.name, thing=thing, cause=cause, fix=fix))

    if accelerator != "ascend":
        cause = f"pdinfra installs Ascend drivers only, this is {accelerator}"
        problem("package", cause, f"remove pd_{kind}_package")
    if sha256 is None:
        cause = f"missing, so {path} cannot be trusted"
        problem("sha256", cause, f"set pd_{kind}_sha256 to the vendor's (`sha256sum {path}`)")
    if version is None:
        cause = f"unknown: the file name {path.rpartition('/')[2]} does not tell it"
        problem("version", cause, f"set pd_{kind}_version, or keep the vendor's file name")
    if problems or sha256 is None or version is None:
        return None, problems
    arch = named["arch"].replace("-", "_") if named and kind == "driver" else None
    package = DriverPackage(kind=kind, version=version, path=path, sha256=sha256, arch=arch)
    return package, []


def driver_changes(plan: HostPlan, facts: DriverFact) -> list[Change]:
    """Return what is to be installed, or put in force, in the order of the work."""
    if plan.driver is None:
        return []
    changes = []
    if facts.reboot:
        reason = f"{facts.reboot} is installed and comes into force with a reboot"
        changes.append(_change(plan, REBOOT, "replace", reason))
    wanted = {package.kind: package.version for package in plan.driver.packages}
    for kind in UPGRADE if facts.driver else FIRST_INSTALL:
        version = wanted.get(kind)
        found: str = getattr(facts, kind)
        if version is None or found == version:
            continue
        if found:
            changes.append(_change(plan, kind, "replace", f"{found} → {version}"))
        else:
            changes.append(_change(plan, kind, "create", f"none on the host: install {version}"))
    return changes


def unseen_driver_changes(plan: HostPlan, reason: str) -> list[Change]:
    """Return what a host that was not looked at is to have."""
    packages = plan.driver.packages if plan.driver else ()
    return [_change(plan, package.kind, "create", reason) for package in packages]


def _change(plan: HostPlan, name: str, action: Literal["create", "replace"], reason: str) -> Change:
    """Return one change of the driver's stage."""
    return Change(host=plan.name, kind="driver", id=name, action=action, reason=reason)


def driver_work(plan: HostPlan, changes: Sequence[Change]) -> DriverWork:
    """Return the role's work: the changes of its stage, in their order."""
    mine = [change for change in changes if change.kind == "driver"]
    if plan.driver is None or not mine:
        return DriverWork()
    packages = {str(package.kind): package for package in plan.driver.packages}
    return DriverWork(
        steps=tuple(
            DriverStep(
                package=packages[change.id],
                mode="full" if change.action == "create" else "upgrade",
            )
            for change in mine
            if change.id != REBOOT
        ),
        waiting=any(change.id == REBOOT for change in mine),
        on_host=plan.driver.on_host,
        reboot_allowed=plan.driver.reboot_allowed,
    )
