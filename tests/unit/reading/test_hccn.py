"""hccn_tool's answers in their released and newer wordings, and /etc/hccn.conf."""

from __future__ import annotations

import pytest

from pdinfra.reading.hccn import conf, network, trouble
from tests.unit.ascend import CONF, TLS, answers, said

NO_IP = said("Get ipconf failed, because no ip was preset there!\n", 13)
NO_GATEWAY = said("Get gateway failed, because no gateway was preset there!\n", 2)
NO_CERTIFICATE = said("No certificate found, please set certs firstly!\n", 14)
BUSY = said("hccn_tool is busy, please try again.\n", 11)
DENIED = said("permission denied: pls check this cmd run permission.\n", 12)


def test_healthy_device_is_read_whole() -> None:
    found = network(answers())
    assert (found.address, found.netmask) == ("10.20.1.1", "255.255.0.0")
    assert (found.link, found.net_health, found.error) == ("UP", "Success", "")
    assert (found.detect, found.gateway, found.tls) == ("10.20.255.254", "10.20.255.254", False)


def test_newer_wording_of_netdetect_is_the_same() -> None:
    found = network(answers(netdetect=said("netdetect addr: 11.12.165.1\n")))
    assert found.detect == "11.12.165.1"


def test_address_of_an_a3_is_its_virtual_nics() -> None:
    vnic = "vnic link status: UP\nvnic ipaddr: 192.168.2.199\nvnic netmask: 255.255.255.0\n"
    mine = {**answers(link=said("link status: DOWN\n")), "vnic": said(vnic)}
    del mine["ip"]
    found = network(mine)
    assert (found.address, found.netmask) == ("192.168.2.199", "255.255.255.0")
    assert (found.vnic, found.link) == ("UP", "DOWN")


def test_what_was_never_set_is_an_answer_and_no_error() -> None:
    found = network(answers(ip=NO_IP, gateway=NO_GATEWAY, tls=NO_CERTIFICATE))
    assert (found.address, found.gateway, found.tls) == (None, None, None)
    assert found.error == ""


def test_switch_that_is_on_is_on() -> None:
    assert network(answers(tls=said(TLS.replace("switch[0]", "switch[1]")))).tls is True


@pytest.mark.parametrize("status", ["Init", "Unreachable", "Socket fail", "Detect ip set"])
def test_net_health_is_taken_as_it_is(status: str) -> None:
    found = network(answers(net_health=said(f"net health status: {status}\n")))
    assert found.net_health == status


@pytest.mark.parametrize("answer", [BUSY, DENIED, said("", None, "no answer within 30 s")])
def test_tool_that_gives_no_answer_says_why(answer: dict[str, object]) -> None:
    found = network(answers(link=answer))
    assert found.error
    assert found.error in f"{answer['stdout']}{answer['stderr']}"


def test_failure_without_words_has_its_exit_code() -> None:
    assert trouble(said("", 4)) == "hccn_tool ended with 4"


def test_conf_has_addresses_by_physical_device_and_other_keys_do_not_disturb() -> None:
    found = conf(CONF + "arp_0=-i eth0 -s 10.10.10.11 aa:bb:cc:dd:ee:ff\nIPv6address_0=fe80::1\n")
    assert found.addresses == {0: "10.20.1.1", 7: "10.20.1.8"}
    assert found.netmasks == {0: "255.255.0.0"}


def test_empty_conf_has_none() -> None:
    assert conf("").addresses == {}
