"""Role ascend_driver on a lab host, with SIMULATED driver and firmware packages.

The host is a real one (systemd, SSH, a real restart); its cards, driver and packages are not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.commands import ROOT, Result, command, lab_name

pytestmark = pytest.mark.lab

LAB = lab_name("driver")
INVENTORY = ROOT / "inventories" / f"lab-{LAB}"
CONTAINER = f"pdinfra-lab-{LAB}-node1"
MAKE = ROOT / "tests" / "sim" / "ascend" / "make-run"
LOG = "/var/log/ascend_seclog/ascend_install.log"
ASCEND = {
    "pd_accelerator": "ascend",
    "pd_connector": "MooncakeConnectorV1",
    "pd_image": "registry.example/vllm-ascend:v0.11.0",
    # The default for Ascend is more than the memory of a machine that holds a lab.
    "pd_shm_gib": 1,
    # The simulated packages build no kernel module.
    "ascend_driver_prerequisites": [],
}
OLD = {"driver": "24.1.0", "firmware": "7.5.0.2.220"}
NEW = {"driver": "25.3.rc1", "firmware": "7.8.0.2.212"}


@dataclass(frozen=True)
class Host:
    """The lab host, and where packages for it are made."""

    folder: Path

    def sh(self, script: str) -> Result:
        return command("docker", "exec", CONTAINER, "sh", "-c", script)

    def version(self, kind: str) -> str:
        said = self.sh(f"cat /usr/local/Ascend/{kind}/version.info").out
        found = re.search(r"^Version=(\S+)", said, re.M)
        return found[1] if found else ""

    def running(self) -> str:
        """The driver that is in force."""
        found = re.search(r"Software Version +: (\S+)", self.sh("npu-smi info -t board -i 0").out)
        return found[1] if found else ""

    def installations(self, kind: str = "") -> int:
        """How often a package, of a kind, was run here."""
        return len(re.findall(rf"\[{kind.capitalize()}.*Start time:", self.sh(f"cat {LOG}").out))

    def booted(self) -> str:
        return self.sh("cut -d ' ' -f 22 /proc/1/stat").out

    def package(self, kind: str, version: str, outcome: str = "ok", *options: str) -> Path:
        """Make a package on this machine."""
        words = (kind, "--version", version, "--outcome", outcome, "--out", str(self.folder))
        made = command(str(MAKE), *words, *options)
        assert made.code == 0, made.text
        return Path(made.out.strip())

    def converge(self, *packages: Path, options: tuple[str, ...] = (), **more: Any) -> Result:
        """Run the driver's part of site.yml with these packages in the inventory."""
        variables: dict[str, Any] = dict(ASCEND)
        for package in packages:
            kind = "driver" if "-driver_" in package.name else "firmware"
            variables[f"pd_{kind}_package"] = str(package)
            if package.exists():
                digest = hashlib.sha256(package.read_bytes()).hexdigest()
                variables[f"pd_{kind}_sha256"] = digest
        path = self.folder / "variables.json"
        path.write_text(json.dumps({**variables, **more}))
        words = ("ansible-playbook", "site.yml", "-i", str(INVENTORY), "--tags", "driver")
        return command(*words, "-e", f"@{path}", *options)


@pytest.fixture(scope="module")
def lab() -> Iterator[None]:
    words = ("python", "-m", "pdinfra", "lab")
    options = ("--hosts", "1", "--npus", "2", "--npu-driver", "none", "--name", LAB)
    up = command(*words, "up", *options)
    assert up.code == 0, up.text
    yield
    down = command(*words, "down", "--name", LAB)
    assert down.code == 0, down.text


@pytest.fixture
def bare(lab: None, tmp_path: Path) -> Host:
    """The host with cards and no driver."""
    host = Host(tmp_path)
    host.sh(
        "for kind in firmware driver; do"
        " script=/usr/local/Ascend/$kind/script/uninstall.sh; [ ! -x $script ] || $script; done;"
        " rm -rf /run/pdinfra/ascend-reboot /etc/ascend_install.info"
    )
    assert host.version("driver") == ""
    return host


@pytest.fixture
def installed(bare: Host) -> Host:
    """The host with an older driver and firmware, and addresses, as an administrator leaves it."""
    script = (
        "id HwHiAiUser || (groupadd HwHiAiUser && useradd -g HwHiAiUser -m HwHiAiUser);"
        "cd /tmp && set -e;"
        + "".join(
            f"package=$(/opt/pdinfra-sim/make-run {kind} --version {version} --out .);"
            "bash $package --full --quiet --install-for-all;"
            for kind, version in OLD.items()
        )
        + _addresses()
    )
    done = bare.sh(script)
    assert done.code == 0, done.text
    return bare


def _addresses() -> str:
    return "".join(
        f"hccn_tool -i {device} -ip -s address 10.20.1.{device + 1} netmask 255.255.0.0;"
        f"hccn_tool -i {device} -gateway -s gateway 10.20.255.254;"
        f"hccn_tool -i {device} -netdetect -s address 10.20.255.254;"
        for device in range(2)
    )


def changed(done: Result) -> int:
    found = re.search(r"^node1 .*changed=(\d+)", done.out, re.M)
    assert found, done.text
    return int(found[1])


def order(done: Result) -> list[str]:
    """Return what was installed, in its order."""
    return re.findall(r"install.yml for node1 => \(item=(\w+) ", done.out)


def test_first_install_then_nothing_to_do(bare: Host) -> None:
    packages = [bare.package(kind, version) for kind, version in NEW.items()]
    done = bare.converge(*packages)
    assert done.code == 0, done.text
    assert "none on the host: install 25.3.rc1" in done.out
    assert order(done) == ["driver", "firmware"]
    assert (bare.version("driver"), bare.version("firmware")) == tuple(NEW.values())
    assert bare.running() == "25.3.rc1"
    assert bare.sh(_addresses()).code == 0
    before = bare.installations()
    again = bare.converge(*packages)
    assert again.code == 0, again.text
    assert changed(again) == 0
    assert bare.installations() == before


def test_upgrade_takes_the_firmware_first_and_check_mode_takes_nothing(installed: Host) -> None:
    packages = [installed.package(kind, version) for kind, version in NEW.items()]
    before = installed.installations()
    dry = installed.converge(*packages, options=("--check", "--diff"))
    assert dry.code == 0, dry.text
    assert "24.1.0 → 25.3.rc1" in dry.out
    assert (installed.installations(), installed.running()) == (before, "24.1.0")
    done = installed.converge(*packages)
    assert done.code == 0, done.text
    assert order(done) == ["firmware", "driver"]
    assert installed.running() == "25.3.rc1"


def test_failed_package_is_told_with_the_installers_words(installed: Host) -> None:
    done = installed.converge(installed.package("driver", "26.1.0", "fail"))
    assert done.code == 2
    assert "node1: driver 26.1.0: the installer ended with 1 and said:" in _line(done)
    assert "Drv_dkms_env_check failed" in _line(done)
    assert LOG in _line(done)
    assert (installed.version("driver"), installed.running()) == ("24.1.0", "24.1.0")


def test_reboot_is_asked_for_then_done_when_allowed_and_the_rest_follows(bare: Host) -> None:
    packages = [
        bare.package("driver", NEW["driver"], "reboot"),
        bare.package("firmware", NEW["firmware"]),
    ]
    booted, before = bare.booted(), bare.installations("driver")
    for _ in range(2):
        asked = bare.converge(*packages)
        assert asked.code == 2
        assert (
            "node1: driver 25.3.rc1 is installed, a reboot is needed to put it in force. Fix: set "
            "pd_reboot_allowed to true, or reboot the host yourself; then run again"
        ) in _line(asked)
        assert bare.installations("driver") == before + 1
    assert (bare.version("firmware"), bare.running()) == ("", "")
    done = bare.converge(*packages, pd_reboot_allowed=True)
    assert done.code == 0, done.text
    assert bare.booted() != booted
    assert bare.running() == "25.3.rc1"
    assert bare.version("firmware") == NEW["firmware"]
    assert bare.installations("driver") == before + 1


def test_reboot_by_hand_is_noticed(installed: Host) -> None:
    package = installed.package("driver", NEW["driver"], "reboot")
    asked = installed.converge(package)
    assert asked.code == 2
    assert installed.running() == "24.1.0"
    restarted = command("docker", "restart", CONTAINER)
    assert restarted.code == 0, restarted.text
    ready = installed.sh("timeout 60 sh -c 'until systemctl is-active -q ssh; do sleep 0.2; done'")
    assert ready.code == 0, ready.text
    done = installed.converge(package)
    assert done.code == 0, done.text
    assert changed(done) == 0
    assert installed.running() == "25.3.rc1"


def test_wrong_packages_are_refused_before_the_host_is_touched(installed: Host) -> None:
    package = installed.package("driver", NEW["driver"])
    before = installed.installations()
    wrong = installed.converge(package, pd_driver_sha256="0" * 64)
    assert wrong.code == 2
    assert "has the sha256" in _line(wrong)
    assert f"expected {'0' * 64}; nothing was installed" in _line(wrong)
    missing = installed.converge(
        installed.folder / "npu-driver_9.9_linux-x86_64.run", pd_driver_sha256="0" * 64
    )
    assert "there is no file" in _line(missing)
    other = installed.package("driver", NEW["driver"], "ok", "--arch", "aarch64")
    foreign = installed.converge(other)
    assert "is made for aarch64, this host is x86_64" in _line(foreign)
    for done in (wrong, missing, foreign):
        assert changed(done) == 0
    assert (installed.installations(), installed.running()) == (before, "24.1.0")


def test_occupied_cards_are_told(installed: Host) -> None:
    assert installed.sh("/opt/pdinfra-sim/fault on process").code == 0
    done = installed.converge(installed.package("driver", NEW["driver"]))
    assert installed.sh("/opt/pdinfra-sim/fault off --all").code == 0
    assert done.code == 2
    assert "The davinci nodes are occupied" in _line(done)


def _line(done: Result) -> str:
    """Return all that was printed as one line: Ansible wraps long messages."""
    return " ".join(done.text.split())
