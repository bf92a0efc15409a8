"""This host's cards, from the simulated tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pdinfra.cli import npu_cards
from pdinfra.driver.look import DriverError
from pdinfra.ranktable.topology import Card
from plugins.module_utils import pd_ascend
from tests.unit.sim.ascend.conftest import simulated
from tests.unit.sim.ascend.running import Simulated

__all__ = ["simulated"]


@pytest.fixture
def host(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> Simulated:
    """The simulated tools in place of the host's."""

    def run(path: str, *words: str) -> dict[str, Any]:
        tool = simulated.hccn_tool if path.endswith("hccn_tool") else simulated.npu_smi
        code, text = tool(" ".join(words))
        return {"rc": code, "stdout": text, "stderr": ""}

    monkeypatch.setattr(pd_ascend, "run", run)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return simulated


def test_addresses_of_hccn_tool(host: Simulated) -> None:
    host.boot()
    conf = host.root / "etc/hccn.conf"
    assert npu_cards.addresses([0, 1], conf) == npu_cards.Seen({0: "10.20.1.1", 1: "10.20.1.2"}, [])


def test_the_file_where_the_tool_tells_none(host: Simulated, tmp_path: Path) -> None:
    host.boot()
    host.fault("on ip-unset --device 1")
    conf = tmp_path / "own.conf"
    conf.write_text("address_0=10.20.1.9\naddress_1=10.20.1.2\n")
    assert npu_cards.addresses([0, 1], conf) == npu_cards.Seen(
        {0: "10.20.1.1", 1: "10.20.1.2"},
        [
            f"device 0: hccn_tool says 10.20.1.1, {conf} says 10.20.1.9: the table has hccn_tool's",
            f"device 1: hccn_tool: no address was set: its address is from {conf}",
        ],
    )


def test_no_address_anywhere(host: Simulated, tmp_path: Path) -> None:
    host.boot()
    host.fault("on ip-unset --device 1")
    with pytest.raises(DriverError) as refused:
        npu_cards.cards([0, 1], tmp_path / "none.conf")
    assert refused.value.code == 1
    assert refused.value.lines == [
        f"device 1: hccn_tool: no address was set, and {tmp_path}/none.conf has no address_1. "
        "Fix: set it: hccn_tool -i N -ip -s address A netmask M"
    ]


def test_a_host_without_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(pd_ascend, "HCCN_TOOL", ())
    conf = tmp_path / "hccn.conf"
    conf.write_text("address_4=29.81.3.22\n")
    cards, notes = npu_cards.cards([4], conf)
    assert cards == {4: Card(4, "29.81.3.22")}
    assert notes == [f"device 4: this host has no hccn_tool: its address is from {conf}"]


def test_super_pods_of_a3(host: Simulated, tmp_path: Path) -> None:
    host.boot(npus=4, profile="a3-98")
    cards, _ = npu_cards.cards([1, 2], tmp_path / "none.conf", virtual=True, pods=True)
    assert [card.device for card in cards.values()] == [1, 2]
    assert all(card.super_device and card.super_pod is not None for card in cards.values())
    assert len({card.super_device for card in cards.values()}) == 2


def test_no_super_pod_on_a2(host: Simulated, tmp_path: Path) -> None:
    host.boot()
    with pytest.raises(DriverError, match="device 0: npu-smi tells no SDID"):
        npu_cards.cards([0], tmp_path / "none.conf", pods=True)


def test_a_name_on_the_loopback_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostbyname", lambda name: "127.0.1.1")
    monkeypatch.setattr(
        "socket.socket.connect", lambda self, address: (_ for _ in ()).throw(OSError("no route"))
    )
    with pytest.raises(DriverError, match=r"tell none \(no route\)\. Fix: name it with --ip"):
        npu_cards.own_address()
    monkeypatch.setattr("socket.gethostbyname", lambda name: "10.0.0.18")
    assert npu_cards.own_address() == "10.0.0.18"
