"""What the simulator prints is what pdinfra reads: a change of either shows here."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.ascend import NpuNetwork
from pdinfra.reading import hccn, npu_smi
from tests.unit.sim.ascend.running import Simulated

PROFILES = ("a2-98", "a3-98", "wide-26.1")


def answer(code: int, text: str) -> dict[str, Any]:
    return {"rc": code, "stdout": text, "stderr": ""}


def network(simulated: Simulated, device: int = 0, place: str = "ip") -> NpuNetwork:
    questions = (place, "link", "net_health", "netdetect", "gateway", "tls")
    answers = {q: answer(*simulated.hccn_tool(f"-i {device} -{q} -g")) for q in questions}
    return hccn.network(answers)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_device_of_every_table_is_read(simulated: Simulated, profile: str) -> None:
    simulated.boot(npus=8, profile=profile)
    simulated.fault("on process --device 3")
    simulated.fault("on unhealthy-critical --device 5")
    text = simulated.npu_smi("info")[1]
    npus = npu_smi.table(text).npus
    assert [npu.device for npu in npus] == list(range(8))
    assert [npu.device for npu in npus if npu.processes] == [3]
    assert [npu.device for npu in npus if npu.health != "OK"] == [5]
    assert {npu.hbm_total for npu in npus} == {65536}
    assert npus[3].hbm_used > 30000 > npus[2].hbm_used
    assert npu_smi.count(simulated.npu_smi("info -l")[1]) == 8


@pytest.mark.parametrize(
    ("fault", "state"),
    [("no-driver", "unloaded"), ("occupied", "held"), ("driver-partial", "failed")],
)
def test_every_failure_is_understood(simulated: Simulated, fault: str, state: str) -> None:
    simulated.boot()
    simulated.fault(f"on {fault}")
    assert npu_smi.state(answer(*simulated.npu_smi("info")))[0] == state


def test_a_healthy_network(simulated: Simulated) -> None:
    simulated.boot()
    found = network(simulated)
    assert found.error == ""
    assert (found.address, found.netmask) == ("10.20.1.1", "255.255.0.0")
    assert (found.link, found.net_health, found.tls) == ("UP", "Success", False)
    assert (found.detect, found.gateway) == ("10.20.255.254", "10.20.255.254")
    conf = hccn.conf(simulated.read("/etc/hccn.conf"))
    assert conf.addresses == {0: "10.20.1.1", 1: "10.20.1.2"}


def test_the_virtual_port_of_an_a3(simulated: Simulated) -> None:
    simulated.boot(profile="a3-98")
    found = network(simulated, place="vnic")
    assert (found.address, found.vnic) == ("192.168.1.199", "UP")


def test_what_is_not_set_is_no_error(simulated: Simulated) -> None:
    simulated.boot()
    for name in ("ip-unset", "gateway-unset"):
        simulated.fault(f"on {name}")
    found = network(simulated)
    assert (found.error, found.address, found.gateway) == ("", None, None)


def test_a_busy_tool_is_an_error(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on busy")
    assert "busy" in network(simulated).error
