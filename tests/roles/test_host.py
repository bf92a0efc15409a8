"""Role host: ports are reserved and left again, in a network that only the test has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.commands import ROOT, Result, command

RESERVED = "/proc/sys/net/ipv4/ip_local_reserved_ports"
PLAY = {"name": "The role by itself", "hosts": "a", "gather_facts": False, "roles": ["host"]}
INVENTORY = {
    "all": {
        "hosts": {
            "a": {
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            }
        }
    }
}


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A play of the role alone, on this machine."""
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(INVENTORY))
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(ROOT / "roles"))
    return tmp_path


def run(play: Path, *values: str) -> Result:
    """Run the role for each value in turn, all in one new network; ``now`` is the kernel's word."""
    conf = play / "90-pdinfra.conf"
    keep = {"name": "Keep", "ansible.builtin.command": {"argv": ["cp", RESERVED, f"{play}/now"]}}
    plays = [
        {
            **PLAY,
            "vars": {"host_reserved_ports": value, "host_sysctl_file": str(conf)},
            "post_tasks": [keep],
        }
        for value in values
    ]
    (play / "play.yml").write_text(json.dumps(plays))
    book = ("ansible-playbook", str(play / "play.yml"), "-i", str(play / "hosts.yml"))
    return command("unshare", "--net", *book)


def test_ports_are_reserved_now_and_for_the_next_boot(play: Path) -> None:
    done = run(play, "40000-40001")
    assert done.code == 0, done.text
    assert (play / "now").read_text() == "40000-40001\n"
    kept = (play / "90-pdinfra.conf").read_text()
    assert kept == "net.ipv4.ip_local_reserved_ports=40000-40001\n"


def test_nothing_stays_reserved_where_the_last_ports_go(play: Path) -> None:
    done = run(play, "40000-40001", "")
    assert done.code == 0, done.text
    assert (play / "now").read_text().strip() == ""
    assert not (play / "90-pdinfra.conf").exists()
