from __future__ import annotations

from pdinfra.reading.driver import DRIVER, FIRMWARE, REBOOT, driver_fact
from tests.sim.ascend.simulator.versions import driver_info, firmware_info


def test_versions_and_what_waits() -> None:
    fact = driver_fact(
        {
            DRIVER: driver_info("25.3.rc1"),
            FIRMWARE: firmware_info("7.7.0.1.231"),
            REBOOT: "driver 25.3.rc1\n",
        }
    )
    assert (fact.driver, fact.firmware) == ("25.3.rc1", "7.7.0.1.231")
    assert fact.reboot == "driver 25.3.rc1"


def test_a_host_without_driver() -> None:
    fact = driver_fact({DRIVER: None, FIRMWARE: "", REBOOT: None})
    assert (fact.driver, fact.firmware, fact.reboot) == ("", "", "")


def test_the_packages_own_version_counts_not_the_others_in_the_file() -> None:
    text = "ascendhal_version=7.35.23\nVersion=25.0.rc1.1\npackage_version=25.0\n"
    assert driver_fact({DRIVER: text}).driver == "25.0.rc1.1"
