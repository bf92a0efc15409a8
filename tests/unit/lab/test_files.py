"""The inventory on disk: gone with the lab unless somebody edited it."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pdinfra.driver.look import DriverError
from pdinfra.lab import files
from pdinfra.lab import state as memory
from pdinfra.lab.names import Lab
from pdinfra.lab.state import State

TWO = {"node1": "10.1.2.11", "node2": "10.1.2.12"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab("t1", tmp_path)
    memory.save(lab, State(subnet=IPv4Network("10.1.2.0/24"), registry_port=5555))
    return lab


def known(lab: Lab) -> State:
    state = memory.load(lab)
    assert state is not None
    return state


def write(lab: Lab, addresses: dict[str, str]) -> list[str]:
    said: list[str] = []
    files.write(lab, known(lab), addresses, said.append)
    return said


def test_untouched_inventory_goes_with_the_lab(lab: Lab) -> None:
    assert write(lab, TWO) == []
    write(lab, TWO | {"node3": "10.1.2.13"})
    assert files.groups(lab)["node3"] == ["decode"]
    assert files.remove(lab, known(lab)) == []
    assert not lab.inventory.exists()


def test_edited_files_stay(lab: Lab) -> None:
    write(lab, TWO)
    path = lab.inventory / "hosts.yml"
    path.write_text(path.read_text() + "# mine\n")
    write(lab, TWO | {"node3": "10.1.2.13"})
    assert files.remove(lab, known(lab)) == ["inventories/lab-t1/hosts.yml"]
    assert path.exists()
    assert not (lab.inventory / "group_vars").exists()


def test_variables_are_written_once(lab: Lab) -> None:
    path = lab.inventory / "group_vars" / "all.yml"
    path.parent.mkdir(parents=True)
    path.write_text("pd_service: mine\n")
    write(lab, TWO)
    assert path.read_text() == "pd_service: mine\n"
    files.remove(lab, known(lab))
    assert path.read_text() == "pd_service: mine\n"


def test_differences_are_said(lab: Lab) -> None:
    write(lab, TWO)
    assert write(lab, {"node1": "10.1.2.11"}) == [
        "inventories/lab-t1/hosts.yml: node2 is in the inventory but not in the lab"
    ]


def test_broken_inventory_is_refused_by_name(lab: Lab) -> None:
    lab.inventory.mkdir(parents=True)
    (lab.inventory / "hosts.yml").write_text("all: [\n")
    with pytest.raises(DriverError, match=r"hosts\.yml: not YAML") as caught:
        write(lab, TWO)
    assert caught.value.code == 2
