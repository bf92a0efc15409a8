"""Role nvidia_runtime without a GPU: its refusals and its check mode, with a SIMULATED nvidia-smi.

What it does on a real GPU host is not tested here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from tests.commands import ROOT, Result, command

DAEMON_JSON = Path("/etc/docker/daemon.json")
KEY = Path("/etc/apt/keyrings/nvidia-container-toolkit.asc")
PLAY = [
    {
        "name": "The role by itself",
        "hosts": "gpu",
        "gather_facts": True,
        "gather_subset": ["min"],
        "roles": ["nvidia_runtime"],
    }
]
INVENTORY = {
    "all": {
        "hosts": {
            "gpu": {
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            }
        }
    }
}
GPU = {"driver_version": "550.90.07"}


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A play of the role alone, on this machine, with the simulator as its nvidia-smi."""
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(INVENTORY))
    (tmp_path / "play.yml").write_text(yaml.safe_dump(PLAY))
    simulator = ROOT / "tests" / "sim" / "nvidia"
    monkeypatch.setenv("PATH", f"{simulator}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(ROOT / "roles"))
    return tmp_path


@pytest.fixture
def driver(play: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIMULATED driver with one GPU."""
    (play / "gpus.json").write_text(json.dumps([GPU]))
    monkeypatch.setenv("SIM_NVIDIA_GPUS", str(play / "gpus.json"))


def run(play: Path, *options: str) -> Result:
    return command(
        "ansible-playbook", str(play / "play.yml"), "-i", str(play / "hosts.yml"), *options
    )


def test_host_without_a_driver_is_refused_in_one_line_with_the_fix(play: Path) -> None:
    done = run(play)
    assert done.code == 2
    assert "gpu: NVIDIA's driver does not answer" in done.text
    assert "couldn't communicate with the NVIDIA driver" in done.text
    assert "changed=0" in done.text


def test_dry_run_shows_the_runtime_beside_what_daemon_json_holds(play: Path, driver: None) -> None:
    before = DAEMON_JSON.read_bytes() if DAEMON_JSON.exists() else None
    done = run(play, "--check", "--diff", "-e", "{nvidia_runtime_repository: false}")
    assert done.code == 0, done.text
    added = [line for line in done.out.splitlines() if line.startswith("+")]
    assert any('"path": "nvidia-container-runtime"' in line for line in added), done.text
    after = DAEMON_JSON.read_bytes() if DAEMON_JSON.exists() else None
    assert after == before


def test_key_that_is_not_nvidia_s_is_refused_and_not_kept(play: Path, driver: None) -> None:
    (play / "gpgkey").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\nsomebody else's\n")
    done = run(play, "-e", f"nvidia_runtime_key_url=file://{play}/gpgkey")
    assert done.code == 2
    assert "checksum" in done.text
    assert not KEY.exists()
