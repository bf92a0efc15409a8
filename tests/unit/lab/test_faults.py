"""Faults as data: every one can be written out, and undone."""

from __future__ import annotations

import subprocess

import pytest

from pdinfra.lab import faults
from pdinfra.lab.faults import INSIDE, Fault

WORDS = {
    "node": "node1",
    "address": "10.1.2.11",
    "gateway": "10.1.2.1",
    "peer": "10.1.2.12",
    "port": "8100",
}

LISTING = """\
unhealthy                device  npu-smi shows Alarm
busy                     host    hccn_tool is busy, exit 11
"""


@pytest.mark.parametrize("fault", INSIDE.values(), ids=lambda fault: fault.name)
def test_commands_are_whole_and_the_shell_understands_them(fault: Fault) -> None:
    allowed = {k: v for k, v in WORDS.items() if k not in ("peer", "port") or k == fault.needs}
    for command in (fault.on, fault.off):
        script = command.format(**allowed)
        assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0, script
    assert fault.meaning


def test_every_firewall_rule_is_taken_away_as_it_was_put() -> None:
    rules = [fault for fault in INSIDE.values() if "iptables" in fault.on]
    assert len(rules) == 3
    for fault in rules:
        assert fault.on.replace(" -I ", " -D ") == fault.off


def test_simulators_listing() -> None:
    assert faults.simulated(LISTING) == {
        "unhealthy": "npu-smi shows Alarm (device, simulated)",
        "busy": "hccn_tool is busy, exit 11 (host, simulated)",
    }
    assert faults.simulated("") == {}


def test_no_generic_fault_hides_another() -> None:
    assert not set(INSIDE) & set(faults.OF_CONTAINER)
