from __future__ import annotations

import pytest

from tests.sim.ascend.simulator.host import INSTALL_LOCK, Host
from tests.unit.sim.ascend.running import Simulated

INSTALL_INFO = """\
UserName=HwHiAiUser
UserGroup=HwHiAiUser
Driver_Install_Type=full
Driver_Install_Path_Param=/usr/local/Ascend
Driver_Install_For_All=yes
Driver_Install_Mode=normal
Driver_Install_Status=complete
Firmware_Install_Type=full
Firmware_Install_Path_Param=/usr/local/Ascend
"""
VERSION_INFO = """\
Version=25.3.rc1
ascendhal_version=7.35.23
aicpu_version=1.0
tdt_version=1.0
log_version=1.0
prof_version=2.0
dvppkernels_version=1.1
tsfw_version=1.0
Innerversion=V100R001C23SPC002B212
compatible_version=[V100R001C19],[V100R001C20],[V100R001C21],[V100R001C22],[V100R001C23]
compatible_version_fw=[7.0.0,8.9.9]
package_version=25.3.rc1
"""


def add_user(simulated: Simulated) -> None:
    Host(simulated.root).write("/etc/passwd", "HwHiAiUser:x:1000:1000::/home/x:/bin/bash\n")
    Host(simulated.root).write("/etc/group", "HwHiAiUser:x:1000:\n")


def test_the_first_boot_leaves_the_real_files(simulated: Simulated) -> None:
    simulated.boot()
    assert simulated.read("/usr/local/Ascend/driver/version.info") == VERSION_INFO
    assert simulated.read("/etc/ascend_install.info") == INSTALL_INFO
    assert simulated.exists("/usr/local/Ascend/driver/lib64")
    assert simulated.exists("/usr/local/dcmi")
    assert simulated.exists("/var/log/ascend_seclog/ascend_install.log")
    assert {path.name for path in (simulated.root / "dev").iterdir()} == {
        *("davinci0", "davinci1", "davinci_manager", "devmm_svm", "hisi_hdc"),
    }


def test_a_later_boot_keeps_faults_and_versions(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on link-down --device 1")
    assert simulated.run(simulated.package("driver", "26.1.0"), "--upgrade --quiet")[0] == 0
    simulated.boot()
    assert simulated.hccn_tool("-i 1 -link -g")[1] == "link status: DOWN\n"
    assert simulated.npu_smi("-v")[1] == "npu-smi version: 26.1.0\n"


def test_first_install_on_a_bare_host(simulated: Simulated) -> None:
    simulated.boot("--driver", "none")
    assert not simulated.exists("/usr/local/bin/npu-smi")
    driver = simulated.package("driver", "25.3.rc1")
    code, text = simulated.run(driver, "--full --quiet --install-for-all")
    assert code == 1
    assert "ERR_NO:0x0091" in text
    add_user(simulated)
    code, text = simulated.run(driver, "--full --quiet --install-for-all")
    assert code == 0
    assert "Driver package installed successfully! The new version takes effect" in text
    assert simulated.read("/etc/hccn.conf") == ""
    assert simulated.hccn_tool("-i 0 -ip -g")[0] == 13
    firmware = simulated.package("firmware", "7.8.0.2.212")
    code, text = simulated.run(firmware, "--full --quiet")
    assert code == 0
    assert "The firmware of [2] chips are successfully upgraded." in text
    simulated.boot("--driver", "none")
    assert simulated.hccn_tool("-i 0 -ip -g")[0] == 0


def test_a_reboot_puts_the_new_driver_in_force(simulated: Simulated) -> None:
    simulated.boot()
    code, text = simulated.run(simulated.package("driver", "26.1.0", "reboot"), "--upgrade --quiet")
    assert code == 2
    assert "Reboot needed for installation/upgrade to take effect!" in text
    assert "Software Version               : 25.3.rc1" in simulated.npu_smi("info -t board -i 0")[1]
    simulated.boot()
    assert "Software Version               : 26.1.0" in simulated.npu_smi("info -t board -i 0")[1]


def test_a_first_install_that_wants_a_reboot_leaves_no_running_driver(simulated: Simulated) -> None:
    simulated.boot("--driver", "none")
    add_user(simulated)
    driver = simulated.package("driver", "25.3.rc1", "reboot")
    assert simulated.run(driver, "--full --quiet --install-for-all")[0] == 2
    assert simulated.npu_smi("info")[0] == 187
    firmware = simulated.package("firmware", "7.8.0.2.212")
    assert simulated.run(firmware, "--full --quiet")[0] == 1
    simulated.boot("--driver", "none")
    assert simulated.run(firmware, "--full --quiet")[0] == 0


def test_a_failing_package_changes_nothing(simulated: Simulated) -> None:
    simulated.boot()
    code, text = simulated.run(simulated.package("driver", "26.1.0", "fail"), "--upgrade --quiet")
    assert code == 1
    assert "Drv_dkms_env_check failed" in text
    assert simulated.read("/usr/local/Ascend/driver/version.info") == VERSION_INFO
    assert "Drv_dkms_env_check" in simulated.read("/var/log/ascend_seclog/ascend_install.log")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--full --quiet", "installed already"),
        ("--upgrade --quiet --install-for-all", "0x0004"),
        ("--upgrade --nonsense", "0x0004"),
        ("--upgrade --quiet --install-username=nobody --install-usergroup=nobody", "0x0091"),
    ],
)
def test_refusals_over_an_installation(simulated: Simulated, words: str, text: str) -> None:
    simulated.boot()
    code, said = simulated.run(simulated.package("driver", "26.1.0"), words)
    assert code == 1
    assert text in said


def test_upgrade_needs_an_installation(simulated: Simulated) -> None:
    simulated.boot("--driver", "none")
    code, text = simulated.run(simulated.package("driver", "26.1.0"), "--upgrade --quiet")
    assert code == 1
    assert "0x0080" in text


def test_another_user_than_the_last_one_is_refused(simulated: Simulated) -> None:
    simulated.boot()
    for path, line in (("/etc/passwd", "two:x:1001:1001::/:\n"), ("/etc/group", "two:x:1001:\n")):
        Host(simulated.root).write(path, simulated.read(path) + line)
    words = "--upgrade --quiet --install-username=two --install-usergroup=two"
    assert "0x0095" in simulated.run(simulated.package("driver", "26.1.0"), words)[1]


def test_refusals_by_circumstances(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated.boot()
    package = simulated.package("driver", "26.1.0")
    with Host(simulated.root).lock(INSTALL_LOCK, wait=False):
        assert "0x0094" in simulated.run(package, "--upgrade --quiet")[1]
    other = simulated.package("driver", "26.1.0", arch="sparc")
    said = simulated.run(other, "--upgrade --quiet")[1]
    assert "The current installation package and environment is not match" in said
    simulated.fault("on process")
    assert "davinci nodes are occupied" in simulated.run(package, "--upgrade --quiet")[1]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "0x0093" in simulated.run(package, "--upgrade --quiet")[1]


def test_a_damaged_package_is_noticed(simulated: Simulated) -> None:
    simulated.boot()
    package = simulated.package("driver", "26.1.0")
    package.write_text(package.read_text() + "x")
    code, text = simulated.run(package, "--check")
    assert code == 1
    assert "Error in SHA256 checksums" in text


def test_questions_to_a_package(simulated: Simulated) -> None:
    package = simulated.package("driver", "26.1.0")
    assert "SIMULATOR" in simulated.run(package, "--help")[1]
    assert "26.1.0" in simulated.run(package, "--version")[1]
    assert "All good." in simulated.run(package, "--check")[1]
    assert simulated.run(package, "--full --noexec")[0] == 0


def test_uninstall(simulated: Simulated) -> None:
    simulated.boot()
    assert simulated.run(simulated.package("driver", "25.3.rc1"), "--uninstall --quiet")[0] == 0
    assert not simulated.exists("/usr/local/bin/npu-smi")
    assert not simulated.exists("/usr/local/Ascend/driver/version.info")
    assert "Driver" not in simulated.read("/etc/ascend_install.info")


def test_the_fault_that_moves_npu_smi(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on no-npu-smi-in-bin")
    assert simulated.exists("/usr/local/sbin/npu-smi")
    assert not simulated.exists("/usr/local/bin/npu-smi")
    simulated.fault("off --all")
    assert simulated.exists("/usr/local/bin/npu-smi")


def test_the_fault_that_takes_a_node(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on missing-node --device 1")
    assert not simulated.exists("/dev/davinci1")
    assert simulated.exists("/dev/davinci0")
    simulated.fault("off missing-node --device 1")
    assert simulated.exists("/dev/davinci1")


def test_faults_that_overlay_a_version_go_away_again(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on driver-old")
    assert "Version=24.1.rc2.2\n" in simulated.read("/usr/local/Ascend/driver/version.info")
    simulated.fault("off driver-old")
    assert simulated.read("/usr/local/Ascend/driver/version.info") == VERSION_INFO


def test_wrong_faults_are_refused(simulated: Simulated) -> None:
    simulated.boot()
    for words in ("on nonsense", "on busy --device 0", "on link-down --device 9", "off"):
        with pytest.raises(SystemExit) as stopped:
            simulated.fault(words)
        assert stopped.value.code == 2
