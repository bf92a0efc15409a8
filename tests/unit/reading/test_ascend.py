"""A whole Ascend host's raw observations → facts."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.model.ascend import AscendFacts
from pdinfra.reading.ascend import ascend_facts
from pdinfra.reading.host import host_facts
from tests.unit.ascend import (
    A3_INFO,
    A3_LIST,
    BOARD,
    CONTAINER,
    HEALTH,
    NOT_LOADED,
    WIDE_INFO,
    answers,
    raw,
    said,
)
from tests.unit.reading.test_host import raw as host_raw

VERSION_INFO = "/usr/local/Ascend/driver/version.info"


def read(**more: Any) -> AscendFacts:
    return ascend_facts(raw(**more))


def files(**texts: str | None) -> dict[str, Any]:
    """Return the raw files with some of them changed (by the last part of their path)."""
    return {
        path: ({**found, "text": texts[name]} if texts[name] is not None else None)
        if (name := path.rpartition("/")[2].replace(".", "_")) in texts
        else found
        for path, found in raw()["files"].items()
    }


def claim(**more: Any) -> dict[str, Any]:
    values = {"id": CONTAINER, "name": "/other", "labels": {}, "devices": [], "privileged": False}
    return {**values, "visible": "", **more}


def test_only_hosts_that_were_asked_have_an_ascend_side() -> None:
    assert host_facts("a", host_raw()).ascend is None
    found = host_facts("a", host_raw(ascend=raw())).ascend
    assert found is not None
    assert found.state == "ready"


def test_healthy_host_is_read_whole() -> None:
    found = read()
    assert (found.state, found.generation) == ("ready", "a2")
    assert (found.driver, found.firmware) == ("25.3.rc1", "7.8.0.2.212")
    assert found.firmware_ranges == (("7.0.0", "8.9.9"),)
    assert found.compatibility == {0: "OK", 7: "OK"}
    assert found.networks[7].address == "10.20.1.8"
    assert found.conf is not None
    assert found.conf.addresses[7] == "10.20.1.8"


def test_facts_survive_their_way_through_json() -> None:
    assert AscendFacts.model_validate_json(read().model_dump_json()) == read()


def test_several_firmware_ranges_are_all_read() -> None:
    text = "Version=24.1.0\ncompatible_version_fw=[6.0.0,6.4.99],[7.0.0,7.6.99]\n"
    changed = raw()["files"] | {VERSION_INFO: {"text": text}}
    assert read(files=changed).firmware_ranges == (("6.0.0", "6.4.99"), ("7.0.0", "7.6.99"))


def test_a3_is_told_by_its_table() -> None:
    asked = {"info": said(A3_INFO), "list": said(A3_LIST), "cards": {}}
    found = read(npu_smi=asked)
    assert found.generation == "a3"
    assert [npu.device for npu in found.npus] == [0, 1, 8, 9]


def test_error_codes_are_read_where_they_were_asked_for() -> None:
    cards = {"7": {"board": said(BOARD), "health": said(HEALTH)}}
    found = read(npu_smi={**raw()["npu_smi"], "cards": cards})
    assert found.error_codes == {7: "80E01801"}
    assert read().error_codes == {}


def test_table_of_an_unknown_shape_is_not_taken_for_a_host_with_fewer_cards() -> None:
    shape = WIDE_INFO.replace("0000:C2:00.0", "somewhere")
    found = read(npu_smi={**raw()["npu_smi"], "info": said(shape)})
    assert (found.state, found.detail) == ("failed", "npu-smi shows 1 devices and counts 2")


def test_driver_that_is_not_loaded_leaves_the_rest_empty() -> None:
    asked = {"info": said(NOT_LOADED, 187), "list": None, "cards": {}}
    found = read(npu_smi=asked)
    assert (found.state, found.npus) == ("unloaded", ())
    assert "-8005" in found.detail


def test_host_without_any_of_it_has_no_driver() -> None:
    nothing = dict.fromkeys(raw()["files"])
    found = read(
        places={"npu-smi": [], "hccn_tool": []}, npu_smi={}, network={}, files=nothing, nodes=[]
    )
    assert (found.state, found.driver, found.hccn_tool) == ("absent", "", None)
    assert found.conf is None


def test_process_gets_its_container_and_the_name_that_npu_smi_left_out() -> None:
    asked = raw()["npu_smi"]
    nameless = said(asked["info"]["stdout"].replace("| python ", "|        "))
    known = {"139667": {"comm": "python3", "cgroup": f"0::/system.slice/docker-{CONTAINER}.scope"}}
    (process,) = read(npu_smi={**asked, "info": nameless}, processes=known).npus[1].processes
    assert (process.name, process.container, process.seen) == ("python3", CONTAINER, True)


def test_process_that_proc_does_not_have_is_not_seen() -> None:
    (process,) = read(processes={"139667": {"comm": None, "cgroup": None}}).npus[1].processes
    assert (process.name, process.container, process.seen) == ("python", None, False)


def test_those_who_have_a_node_open_are_sorted_by_device() -> None:
    rows = [{"device": 7, "pid": 9, "comm": "python", "cgroup": "0::/user.slice"}]
    (process,) = read(openers=rows).openers[7]
    assert str(process) == "python (pid 9)"


@pytest.mark.parametrize(
    ("given", "devices"),
    [
        ({"devices": ["/dev/davinci3", "/dev/davinci_manager", "/dev/hisi_hdc"]}, (3,)),
        ({"visible": "0,2"}, (0, 2)),
        ({"visible": "0-3"}, (0, 1, 2, 3)),
        ({"visible": "0-1,5"}, (0, 1, 5)),
        ({"visible": "void"}, ()),
        ({"devices": ["/dev/fuse"]}, ()),
    ],
)
def test_containers_devices_are_read_in_both_ways_they_are_given(
    given: dict[str, Any], devices: tuple[int, ...]
) -> None:
    (found,) = read(claims=[claim(**given)]).claims
    assert (found.container, found.devices) == ("other", devices)


def test_service_of_a_container_is_its_label() -> None:
    (found,) = read(claims=[claim(labels={"pdinfra.service": "pd"}, privileged=True)]).claims
    assert (found.service, found.privileged) == ("pd", True)


def test_conf_that_is_empty_is_not_one_that_is_missing() -> None:
    empty = read(files=files(hccn_conf="")).conf
    assert empty is not None
    assert empty.addresses == {}
    assert read(files=files(hccn_conf=None)).conf is None


def test_device_that_the_tool_gave_no_answer_for_keeps_its_error() -> None:
    busy = said("hccn_tool is busy, please try again.\n", 11)
    found = read(network={"0": answers(tls=busy)})
    assert "busy" in found.networks[0].error
