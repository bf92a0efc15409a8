"""What is collected on an Ascend host, with FAKE tools: shell scripts in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils import pd_ascend as shared

from pdinfra.reading.ascend import ascend_facts
from plugins.modules import pd_facts, pd_npu_ping
from tests.unit.ascend import A2_INFO, A2_LIST, A3_INFO, A3_LIST, BOARD, CONF

GOOD_PING = "3 packets transmitted, 3 received, 0.00% packet loss"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with FAKE tools that log their calls, and the module looking there."""
    monkeypatch.setattr(shared, "NPU_SMI", (str(tmp_path / "npu-smi"), str(tmp_path / "none")))
    monkeypatch.setattr(shared, "HCCN_TOOL", (str(tmp_path / "hccn_tool"),))
    monkeypatch.setattr(shared, "FILES", (str(tmp_path / "hccn.conf"), str(tmp_path / "nothing")))
    monkeypatch.setattr(shared, "PAUSE", 0.01)
    for name, text in (("info", A2_INFO), ("list", A2_LIST), ("board", BOARD), ("map", "Chip ID")):
        (tmp_path / name).write_text(text)
    (tmp_path / "hccn.conf").write_text(CONF)
    tool(tmp_path, "npu-smi", NPU_SMI)
    tool(tmp_path, "hccn_tool", f"echo '{GOOD_PING}'")
    return tmp_path


NPU_SMI = """\
case "$*" in
  info) cat info ;;
  "info -l") cat list ;;
  "info -m") cat map ;;
  "info -t board"*|"info -t health"*) cat board ;;
  *) exit 187 ;;
esac
"""


def tool(folder: Path, name: str, script: str) -> None:
    """Write a FAKE tool."""
    path = folder / name
    path.write_text(f"#!/bin/sh\ncd {folder}\necho {name} $* >> calls\n{script}\n")
    path.chmod(0o755)


def calls(folder: Path, name: str) -> list[str]:
    """Return how a tool was called."""
    lines = (folder / "calls").read_text().splitlines()
    return [line.removeprefix(f"{name} ") for line in lines if line.startswith(name)]


def test_each_device_of_the_plan_is_asked_and_no_other(host: Path) -> None:
    raw = shared.collect([0, 7], [])
    assert calls(host, "hccn_tool") == [
        f"-i {device} {question} -g"
        for device in (0, 7)
        for question in ("-ip", "-link", "-net_health", "-netdetect", "-gateway", "-tls")
    ]
    assert set(raw["network"]) == {"0", "7"}


def test_what_was_collected_can_be_read(host: Path) -> None:
    found = ascend_facts({**shared.collect([0, 7], [str(host)]), "claims": []})
    assert (found.state, [npu.device for npu in found.npus]) == ("ready", [0, 7])
    assert found.compatibility == {0: "OK", 7: "OK"}
    assert found.mounts == {str(host): "directory"}


def test_health_is_only_asked_for_where_a_card_is_not_well(host: Path) -> None:
    shared.collect([7], [])
    assert "info -t health -i 7" in calls(host, "npu-smi")
    (host / "calls").unlink()
    (host / "info").write_text(A2_INFO.replace("Warning", "OK     "))
    shared.collect([7], [])
    assert "info -t health -i 7" not in calls(host, "npu-smi")


def test_only_cards_of_the_plan_are_asked_for(host: Path) -> None:
    shared.collect([7], [])
    assert calls(host, "npu-smi") == [
        "info",
        "info -l",
        "info -t board -i 7",
        "info -t health -i 7",
    ]
    (host / "list").write_text(A3_LIST)
    (host / "calls").unlink()
    shared.collect([9], [])
    assert "info -t board -i 4" in calls(host, "npu-smi")
    assert "info -t board -i 0" not in calls(host, "npu-smi")


def test_a3_is_asked_for_its_virtual_nic(host: Path) -> None:
    (host / "info").write_text(A3_INFO)
    shared.collect([8], [])
    assert calls(host, "hccn_tool")[0] == "-i 8 -vnic -g"


def test_npu_smi_that_fails_is_asked_nothing_more(host: Path) -> None:
    tool(host, "npu-smi", "echo ret is -8005; exit 187")
    raw = shared.collect([0], [])
    assert calls(host, "npu-smi") == ["info"]
    assert raw["npu_smi"]["info"]["rc"] == 187


def test_host_without_tools_brings_what_there_is(host: Path) -> None:
    (host / "npu-smi").unlink()
    (host / "hccn_tool").unlink()
    (host / "npu-smi").mkdir()  # What Docker makes of a bind source that is missing.
    raw = shared.collect([0], [str(host / "npu-smi"), str(host / "calls")])
    assert (raw["places"], raw["network"]) == ({"npu-smi": [], "hccn_tool": []}, {})
    assert raw["mounts"] == {str(host / "npu-smi"): "directory", str(host / "calls"): "absent"}
    assert ascend_facts({**raw, "claims": []}).state == "absent"


def test_files_come_with_their_mode_and_what_is_not_there_is_none(host: Path) -> None:
    (host / "hccn.conf").chmod(0o640)
    found = shared.collect([0], [])["files"]
    assert found[str(host / "nothing")] is None
    assert found[str(host / "hccn.conf")] == {"text": CONF, "mode": 0o640, "uid": os.getuid()}


BUSY_TWICE = """\
echo x >> tries
if [ "$(wc -l < tries)" -le 2 ]; then echo "hccn_tool is busy, please try again."; exit 11; fi
echo "link status: UP"
"""


def test_busy_tool_is_asked_again(host: Path) -> None:
    tool(host, "hccn_tool", BUSY_TWICE)
    answer = shared.HccnTool(str(host / "hccn_tool")).ask(0, "-link", "-g")
    assert (answer["rc"], answer["stdout"]) == (0, "link status: UP\n")


def test_tool_that_stays_busy_is_waited_for_only_so_long(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PATIENCE", 0.05)
    tool(host, "hccn_tool", "echo 'hccn_tool is busy, please try again.'; exit 11")
    answers = shared.collect([0, 7], [])["network"]
    assert {a["rc"] for said in answers.values() for a in said.values()} == {11}
    # The patience is for all calls together: most of the twelve are made once.
    assert len(calls(host, "hccn_tool")) < 24


def test_tool_that_hangs_is_given_up(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "TIMEOUT", 0.2)
    tool(host, "hccn_tool", "exec sleep 60")
    answers = shared.collect([0, 7], [])["network"]
    assert "no answer" in answers["0"]["ip"]["stderr"]
    assert len(calls(host, "hccn_tool")) == 1


def test_process_that_has_a_node_open_is_found(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "DEV", str(host))
    for name in ("davinci3", "davinci_manager"):
        (host / name).touch()
    with (host / "davinci3").open(), (host / "davinci_manager").open():
        (found,) = shared.openers({3})
        assert shared.openers({4}) == []
        assert shared.collect([3], [])["nodes"] == [
            str(host / "davinci3"),
            str(host / "davinci_manager"),
        ]
    assert (found["device"], found["pid"]) == (3, os.getpid())
    assert found["comm"]
    assert shared.openers({3}) == []


# Containers of others


DOCUMENT = {
    "Name": "/jupyter",
    "Config": {"Labels": None, "Env": ["A=b", "ASCEND_VISIBLE_DEVICES=0-1", "TOKEN=secret"]},
    "HostConfig": {"Devices": [{"PathOnHost": "/dev/davinci3"}], "Privileged": False},
}


def test_every_running_container_brings_its_devices_and_none_of_its_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(path: str) -> Any:
        if path == "/containers/json":
            return [{"Id": "1"}, {"Id": "gone"}]
        if path == "/containers/gone/json":
            raise OSError("404")
        return DOCUMENT

    monkeypatch.setattr(pd_facts, "docker_json", answer)
    assert pd_facts.claims() == [
        {
            "id": "1",
            "name": "/jupyter",
            "labels": {},
            "devices": ["/dev/davinci3"],
            "visible": "0-1",
            "privileged": False,
        }
    ]


def test_host_without_docker_has_no_such_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> Any:
        raise FileNotFoundError(path)

    monkeypatch.setattr(pd_facts, "docker_json", refuse)
    assert pd_facts.claims() == []


# The module that pings


def test_every_target_is_pinged_one_after_the_other(host: Path) -> None:
    wanted = [{"device": 0, "address": "10.0.0.2"}, {"device": 7, "address": "10.0.0.3"}]
    results = pd_npu_ping.ping(wanted)
    assert calls(host, "hccn_tool") == [
        "-i 0 -ping -g address 10.0.0.2",
        "-i 7 -ping -g address 10.0.0.3",
    ]
    assert results[1] == {"device": 7, "address": "10.0.0.3", "rc": 0, "stdout": f"{GOOD_PING}\n"}


def test_a3_pings_over_hccs(host: Path) -> None:
    (host / "map").write_text("NPU ID  Chip ID  Chip Logic ID  Chip Phy-ID  Chip Name\n")
    pd_npu_ping.ping([{"device": 3, "address": "192.168.1.1"}])
    assert calls(host, "hccn_tool") == ["-i 3 -hccs_ping -g address 192.168.1.1"]


def test_host_that_cannot_ping_says_so(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (host / "hccn_tool").unlink()
    arguments = {"targets": [{"device": 0, "address": "10.0.0.2"}]}
    monkeypatch.setattr(
        basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    )
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
    with pytest.raises(SystemExit):
        pd_npu_ping.main()
    answer = json.loads(capsys.readouterr().out)
    assert answer["failed"]
    assert "Fix: install the Ascend driver" in answer["msg"]


def test_shared_code_uses_nothing_but_the_standard_library() -> None:
    source = Path(str(shared.__file__)).read_text(encoding="utf-8")
    assert "pdinfra import" not in source
    assert "from ansible" not in source
