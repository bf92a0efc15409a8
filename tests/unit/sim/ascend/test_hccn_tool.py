from __future__ import annotations

import json

import pytest

from tests.sim.ascend.simulator import hccn_tool, network
from tests.sim.ascend.simulator.host import HCCN_LOCK, Host
from tests.unit.sim.ascend.running import Simulated


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("-ip", "ipaddr:10.20.1.2\nnetmask:255.255.0.0\n"),
        ("-link", "link status: UP\n"),
        ("-net_health", "net health status: Success\n"),
        ("-netdetect", "netdetect address: 10.20.255.254\n"),
        ("-gateway", "default gateway:10.20.255.254, Iface:eth1\n"),
        ("-speed", "Speed: 200000 Mb/s\n"),
        ("-fec", "fec mode: rs FEC mode\n"),
    ],
)
def test_good_answers(simulated: Simulated, query: str, text: str) -> None:
    simulated.boot()
    assert simulated.hccn_tool(f"-i 1 {query} -g") == (0, text)


def test_tls(simulated: Simulated) -> None:
    simulated.boot()
    assert simulated.hccn_tool("-i 0 -tls -g")[1].startswith(
        "dev_id:0, tls switch[0](0:disable, 1:enable), tls preconfigured[1](0:non-preset, "
        "1:preset), tls alarm time threshold[60]days\ndev_id:0, [pub cert] info:\n"
    )
    assert simulated.hccn_tool("-i 0 -tls -s enable 1") == (0, "Cmd executed successfully!\n")
    assert "tls switch[1]" in simulated.hccn_tool("-i 0 -tls -g")[1]
    assert "tls_enable_0=1\n" in simulated.read("/etc/hccn.conf")


@pytest.mark.parametrize(
    ("fault", "query", "code", "text"),
    [
        ("ip-unset", "-ip", 13, "Get ipconf failed, because no ip was preset there!"),
        (
            "gateway-unset",
            "-gateway",
            2,
            "Get gateway failed, because no gateway was preset there!",
        ),
        ("no-cert", "-tls", 14, "No certificate found, please set certs firstly!"),
        ("busy", "-ip", 11, "hccn_tool is busy, please try again."),
        ("no-driver", "-ip", 1, "Command execute failed!"),
        ("link-down", "-link", 0, "link status: DOWN"),
        ("net-health-init", "-net_health", 0, "net health status: Init"),
        ("net-health-unreachable", "-net_health", 0, "net health status: Unreachable"),
        ("speed-unknown", "-speed", 0, "Speed: Unknown!"),
        ("lldp-empty", "-lldp", 0, ""),
        ("netdetect-unset", "-netdetect", 0, "netdetect address: 0.0.0.0"),
    ],
)
def test_faults(simulated: Simulated, fault: str, query: str, code: int, text: str) -> None:
    simulated.boot()
    simulated.fault(f"on {fault}")
    assert simulated.hccn_tool(f"-i 0 {query} -g") == (code, f"{text}\n")
    simulated.fault(f"off {fault}")
    assert simulated.hccn_tool(f"-i 0 {query} -g")[1] != f"{text}\n"


def test_a_fault_of_one_device_leaves_the_others(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on link-down --device 1")
    assert simulated.hccn_tool("-i 0 -link -g")[1] == "link status: UP\n"
    assert simulated.hccn_tool("-i 1 -link -g")[1] == "link status: DOWN\n"


@pytest.mark.parametrize(("profile", "link"), [("a2-98", "link-down"), ("a3-98", "vnic-down")])
def test_containers_see_the_cards_as_they_are_now(
    simulated: Simulated, profile: str, link: str
) -> None:
    simulated.boot(profile=profile)
    simulated.hccn_tool("-i 0 -ip -s address 10.20.1.77 netmask 255.255.0.0")
    for fault in (f"{link} --device 0", "ip-unset --device 1", "occupied"):
        simulated.fault(f"on {fault}")
    assert json.loads(simulated.read("/usr/local/Ascend/driver/pdinfra-sim.json")) == {
        "dcmi": -8020,
        "devices": {
            "0": {"address": "10.20.1.77", "link": "DOWN"},
            "1": {"address": "", "link": "UP"},
        },
    }


def test_two_calls_at_once_are_refused(simulated: Simulated) -> None:
    simulated.boot()
    with Host(simulated.root).lock(HCCN_LOCK, wait=False):
        assert simulated.hccn_tool("-i 0 -ip -g")[0] == 11
    assert simulated.hccn_tool("-i 0 -ip -g")[0] == 0


def test_only_root_may_ask(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated.boot()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert simulated.hccn_tool("-i 0 -ip -g") == (
        12,
        "permission denied: pls check this cmd run permission.\n",
    )


@pytest.mark.parametrize(("words", "code"), [("-i 2 -ip -g", 4), ("-i 0 -nonsense -g", 3)])
def test_wrong_calls(simulated: Simulated, words: str, code: int) -> None:
    simulated.boot()
    assert simulated.hccn_tool(words)[0] == code


GOOD_PING = """\
device 0 PING 10.20.2.1
recv seq=0,time=0.114000ms
recv seq=1,time=0.114000ms
recv seq=2,time=0.114000ms
3 packets transmitted, 3 received, 0.00% packet loss
"""
BAD_PING = """\
device 0 PING 10.20.2.1
recv time out seq=0
recv time out seq=1
recv time out seq=2
3 packets transmitted, 0 received, 100.00% packet loss
"""


@pytest.mark.parametrize(
    ("answers", "fault", "text"),
    [
        (True, "", GOOD_PING),
        (False, "", BAD_PING),
        (True, "on unreachable", BAD_PING),
        (True, "on unreachable --peer 10.20.2.1", BAD_PING),
        (True, "on unreachable --peer 10.99.0.12", BAD_PING),
        (True, "on unreachable --peer 10.20.2.2", GOOD_PING),
        (True, "on link-down", BAD_PING),
    ],
)
def test_ping(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch, answers: bool, fault: str, text: str
) -> None:
    simulated.boot()
    monkeypatch.setattr(network, "reaches", lambda *_: answers)
    monkeypatch.setattr(network, "own_address", lambda: "10.99.0.11")
    if fault:
        simulated.fault(fault)
    assert simulated.hccn_tool("-i 0 -ping -g address 10.20.2.1") == (0, text)


def test_lossy(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated.boot()
    monkeypatch.setattr(network, "reaches", lambda *_: True)
    simulated.fault("on lossy --peer 10.20.2.1")
    text = simulated.hccn_tool("-i 0 -ping -g address 10.20.2.1")[1]
    assert "3 packets transmitted, 2 received, 33.33% packet loss" in text


def test_a_foreign_address_reaches_nobody() -> None:
    assert not network.reaches("10.20.x.1", 1)
    assert not network.reaches("172.16.1.1", 1)
    assert network.reaches("10.20.1.7", 1)


def test_a3_has_a_virtual_port(simulated: Simulated) -> None:
    simulated.boot(profile="a3-98")
    assert simulated.hccn_tool("-i 0 -vnic -g")[1] == (
        "vnic link status: UP\nvnic ipaddr: 192.168.1.199\nvnic netmask: 255.255.255.0\n"
    )
    text = simulated.hccn_tool("-i 0 -hccs_ping -g address 192.168.1.200")[1]
    assert text.count("This pkt ping success!") == 3
    assert "3 packets transmitted, 3 received, 0.00% packets loss" in text


def test_the_file_and_the_device_can_differ(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on ip-wrong --device 0")
    assert "address_0=10.20.1.1\n" in simulated.read("/etc/hccn.conf")
    assert simulated.hccn_tool("-i 0 -ip -g")[1].startswith("ipaddr:10.20.1.101\n")
    simulated.fault("on hccn-conf-empty")
    assert simulated.read("/etc/hccn.conf") == ""


def test_one_address_twice(simulated: Simulated) -> None:
    simulated.boot()
    simulated.fault("on device-ip-double --device 0")
    assert simulated.hccn_tool("-i 0 -ip -g") == simulated.hccn_tool("-i 1 -ip -g")


def test_help_says_what_it_is(simulated: Simulated) -> None:
    assert "SIMULATOR" in simulated.hccn_tool("--help")[1]
    assert "SIMULATOR" in simulated.npu_smi("--help")[1]
    assert hccn_tool.HELP != ""
