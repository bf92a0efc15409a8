"""Which package is run, in which order, and what is refused before a host is looked at."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.doctor import failures
from pdinfra.model.changes import Change
from pdinfra.model.checks import Check
from pdinfra.model.facts import DriverFact
from pdinfra.model.plan import HostPlan
from pdinfra.planning.changes import host_changes, unseen_changes
from pdinfra.planning.work import host_work
from tests.unit.builders import ASCEND, NVIDIA, ONE_HOST, converged, lines, only, plan, problems

SHA = "ab" * 32
DRIVER: dict[str, Any] = {
    "pd_driver_package": "/srv/Ascend-hdk-910b-npu-driver_25.3.rc1_linux-aarch64.run",
    "pd_driver_sha256": SHA,
}
FIRMWARE: dict[str, Any] = {
    "pd_firmware_package": "/srv/Ascend-hdk-910b-npu-firmware_7.8.0.2.212.run",
    "pd_firmware_sha256": SHA,
}
BOTH = {**ASCEND, **DRIVER, **FIRMWARE}
CURRENT = DriverFact(driver="25.3.rc1", firmware="7.8.0.2.212")


def host(**more: Any) -> HostPlan:
    return plan(every={**BOTH, **more}).host("a")


def driver_changes(of: HostPlan, fact: DriverFact) -> list[Change]:
    return [c for c in host_changes(of, converged(of, driver=fact)) if c.kind == "driver"]


def shown(of: HostPlan, fact: DriverFact) -> list[tuple[str, str, str]]:
    return [(c.id, c.action, c.reason) for c in driver_changes(of, fact)]


def modes(of: HostPlan, fact: DriverFact) -> list[tuple[str, str]]:
    work = host_work(of, driver_changes(of, fact), check=False).driver
    return [(step.package.kind, step.mode) for step in work.steps]


def test_the_file_name_tells_version_and_architecture() -> None:
    found = host().driver
    assert found is not None
    driver, firmware = found.packages
    assert (driver.version, driver.arch, driver.sha256) == ("25.3.rc1", "aarch64", SHA)
    assert (firmware.version, firmware.arch) == ("7.8.0.2.212", None)


@pytest.mark.parametrize(
    ("name", "version", "arch"),
    [
        ("Ascend-hdk-910b-npu-driver_24.1.0_linux-x86-64.run", "24.1.0", "x86_64"),
        ("Ascend-hdk-910b-npu-driver_25.0.rc1.1_linux-x86_64.run", "25.0.rc1.1", "x86_64"),
        ("Atlas-A3-hdk-npu-driver_25.5.2_linux-aarch64.run", "25.5.2", "aarch64"),
    ],
)
def test_the_vendors_ways_to_name_a_file(name: str, version: str, arch: str) -> None:
    found = host(pd_driver_package=f"/srv/{name}").driver
    assert found is not None
    assert (found.packages[0].version, found.packages[0].arch) == (version, arch)


def test_a_version_can_be_given_for_a_renamed_file() -> None:
    found = host(pd_driver_package="/srv/driver.run", pd_driver_version="25.5.0").driver
    assert found is not None
    assert (found.packages[0].version, found.packages[0].arch) == ("25.5.0", None)


def test_nothing_is_planned_unless_a_package_is_named() -> None:
    assert plan(every=ASCEND).host("a").driver is None


def test_bare_host_gets_the_driver_first() -> None:
    assert shown(host(), DriverFact()) == [
        ("driver", "create", "none on the host: install 25.3.rc1"),
        ("firmware", "create", "none on the host: install 7.8.0.2.212"),
    ]
    assert modes(host(), DriverFact()) == [("driver", "full"), ("firmware", "full")]


def test_upgrade_takes_the_firmware_first() -> None:
    old = DriverFact(driver="24.1.0", firmware="7.5.0.2.220")
    assert shown(host(), old) == [
        ("firmware", "replace", "7.5.0.2.220 → 7.8.0.2.212"),
        ("driver", "replace", "24.1.0 → 25.3.rc1"),
    ]
    assert modes(host(), old) == [("firmware", "upgrade"), ("driver", "upgrade")]


def test_equal_versions_need_nothing() -> None:
    assert driver_changes(host(), CURRENT) == []
    work = host_work(host(), [], check=False)
    assert "driver" not in work.stages
    assert work.driver.steps == ()


def test_firmware_that_is_missing_is_installed_in_full() -> None:
    seen = DriverFact(driver="25.3.rc1")
    assert modes(host(), seen) == [("firmware", "full")]


def test_what_waits_for_a_reboot_comes_before_all_else() -> None:
    waiting = DriverFact(driver="25.3.rc1", reboot="driver 25.3.rc1")
    assert shown(host(), waiting)[0] == (
        "reboot",
        "replace",
        "driver 25.3.rc1 is installed and comes into force with a reboot",
    )
    work = host_work(host(), driver_changes(host(), waiting), check=False)
    assert work.driver.waiting
    assert not work.driver.reboot_allowed
    assert [step.package.kind for step in work.driver.steps] == ["firmware"]
    assert "driver" in work.stages


def test_the_work_carries_what_is_allowed() -> None:
    of = host(pd_reboot_allowed=True, pd_packages_on_host=True)
    work = host_work(of, driver_changes(of, DriverFact()), check=False).driver
    assert (work.reboot_allowed, work.on_host, work.waiting) == (True, True, False)


def test_a_host_that_was_not_looked_at() -> None:
    kinds = [(c.kind, c.id) for c in unseen_changes(host())]
    assert kinds[:2] == [("driver", "driver"), ("driver", "firmware")]


def test_a_package_without_checksum_is_refused() -> None:
    found = only(problems(every={**ASCEND, **DRIVER, "pd_driver_sha256": None}))
    assert found.thing == "pd_driver_sha256"
    assert "sha256sum /srv/Ascend-hdk" in found.fix


def test_a_checksum_that_is_none_is_refused() -> None:
    assert "pd_driver_sha256" in lines(
        problems(every={**ASCEND, **DRIVER, "pd_driver_sha256": "123"})
    )


@pytest.mark.parametrize("path", ["/srv/driver.run", FIRMWARE["pd_firmware_package"]])
def test_an_unknown_version_is_refused(path: str) -> None:
    found = only(problems(every={**ASCEND, **DRIVER, "pd_driver_package": path}))
    assert found.thing == "pd_driver_version"
    assert path.rpartition("/")[2] in found.cause


def test_other_accelerators_have_no_such_packages() -> None:
    found = only(problems(groups=ONE_HOST, every={**NVIDIA, **DRIVER}))
    assert found.cause == "pdinfra installs Ascend drivers only, this is nvidia"


def failed(name: str, host_name: str) -> Check:
    return Check(id=name, host=host_name, status="fail", found="x", expected="y", fix="z")


def test_cards_are_not_judged_by_the_driver_that_goes() -> None:
    cards = [failed("npu-driver", "a"), failed("npu-ping", "b → a")]
    others = [failed("disk", "a"), failed("npu-driver", "b")]
    assert failures([*cards, *others], {"a"}) == others
    assert failures(cards) == cards
