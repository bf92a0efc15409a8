"""An instance that cannot work does not start, and says why."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.commands import BIN, ROOT
from tests.sim.ascendcloud.simulator import cards, options, tables
from tests.sim.ascendcloud.simulator.container import DRIVER_STATE, NPU_SMI
from tests.sim.ascendcloud.simulator.main import main
from tests.sim.ascendcloud.simulator.refusal import RefusalError
from tests.unit.sim.ascendcloud.instances import GLOBAL, HOST_TABLE, Node, edit, local_name

START = ROOT / "tests" / "sim" / "ascendcloud" / "start_servers.sh"
PREFILL, DECODE = local_name("01"), local_name("23")
Change = Callable[[Any], object]


def start(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    whole = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **env}
    return subprocess.run(["sh", str(START), *words], env=whole, capture_output=True, text=True)


def test_it_says_that_it_is_a_simulator() -> None:
    assert "SIMULATOR" in start("--help").stdout


def test_refusal_is_one_line_with_its_name_and_code_1(node: Node) -> None:
    env = node.variables(DECODE)
    del env["RANK_TABLE_FILE_PATH"]
    done = start(*node.arguments(), **env)
    assert done.returncode == 1
    name = "start_servers.sh (pdinfra's SIMULATOR of AscendCloud)"
    text = "environment variable RANK_TABLE_FILE_PATH is not set"
    assert done.stderr == f"{name}: refused: {text}\n"


def refusal(node: Node, local: str, *used: int, words: Sequence[str] = (), unset: str = "") -> str:
    """Start an instance that must refuse; return why."""
    whole = node.container(local, *used)
    container = replace(whole, env={k: v for k, v in whole.env.items() if k != unset})
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("tests.sim.ascendcloud.simulator.main.say", said.append)
        assert main(node.arguments(*words), container) == 1
    return said[-1]


@pytest.mark.parametrize(
    "name", ["GLOBAL_RANK_TABLE_FILE_PATH", "RANK_TABLE_FILE_PATH", "ASCEND_TOOLKIT_HOME"]
)
def test_missing_variable(node: Node, name: str) -> None:
    assert f"{name} is not set" in refusal(node, PREFILL, 0, 1, unset=name)


def test_roles_come_from_the_tables(node: Node) -> None:
    roles = {
        local: tables.read(node.container(local)).role for local in (HOST_TABLE, PREFILL, DECODE)
    }
    assert roles == {HOST_TABLE: "scheduler", PREFILL: "prefill", DECODE: "decode"}


def groups(table: Any) -> Any:
    return table["server_group_list"]


def first_device(table: Any) -> Any:
    return groups(table)[1]["server_list"][0]["device"][0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.update(status="initializing"), 'status is "initializing", not "completed"'),
        (lambda t: t.update(version="1.2"), 'version is "1.2"'),
        (lambda t: t.pop("server_group_list"), "no global rank table"),
        (lambda t: t.update(prefill_device_list=t.pop("server_group_list")), "no global rank"),
        (lambda t: groups(t).pop(0), 'has the groups ["1", "2"]'),
        (lambda t: groups(t).reverse(), 'has the groups ["2", "1", "0"]'),
        (lambda t: groups(t)[1].update(group_id=1), 'has the groups ["0", 1, "2"]'),
        (lambda t: groups(t)[1].update(server_count=1), 'server_count is 1, not "1"'),
        (lambda t: groups(t)[2].update(server_count="2"), 'server_count is "2", not "1"'),
        (lambda t: groups(t)[2].update(server_list=[]), "has no servers"),
        (lambda t: groups(t)[2]["server_list"][0].pop("device"), "has no devices"),
        (
            lambda t: groups(t)[0].update(
                server_list=groups(t)[0]["server_list"] * 2, server_count="2"
            ),
            'group "0" has 2 servers',
        ),
        (lambda t: first_device(t).update(device_id=0), "device_id is 0, not a string"),
        (lambda t: first_device(t).update(rank_id="1"), 'rank_id is "1"'),
        (lambda t: first_device(t).update(device_ip="ipaddr"), 'device_ip "ipaddr" is no address'),
        (lambda t: first_device(t).update(device_id="1"), "card 127.0.0.1 device 1 is there twice"),
        (lambda t: first_device(t).update(device_ip="10.20.1.2"), "10.20.1.2 is there twice"),
        (lambda t: first_device(t).update(device_ip="10.20.9.9"), "not in the global table"),
    ],
)
def test_global_table_that_is_wrong(node: Node, change: Change, text: str) -> None:
    edit(node.tables / GLOBAL, change)
    assert text in refusal(node, PREFILL, 0, 1)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop("group_id"), "is no local rank table"),
        (lambda t: t.update(server_count=1), 'server_count is 1, not "1"'),
        (lambda t: t.update(server_list=["127.0.0.1"]), "server_id is null, not a string"),
        (lambda t: t["server_list"][0].update(server_ip="127.0.0.2"), "not in the global table"),
        (lambda t: t["server_list"][0]["device"].pop(), "not in the global table"),
        (
            lambda t: t.update(server_list=t["server_list"] * 2, server_count="2"),
            "has 2 servers, an instance is one",
        ),
    ],
)
def test_local_table_that_is_wrong(node: Node, change: Change, text: str) -> None:
    edit(node.tables / PREFILL, change)
    assert text in refusal(node, PREFILL, 0, 1)


def test_local_table_with_the_cards_in_another_order(node: Node) -> None:
    def swap(table: Any) -> None:
        one, two = table["server_list"][0]["device"]
        one["device_id"], two["device_id"] = two["device_id"], one["device_id"]

    edit(node.tables / PREFILL, swap)
    assert "1=10.20.1.1 rank 0, 0=10.20.1.2 rank 1, is not in the global" in refusal(
        node, PREFILL, 0, 1
    )


def test_global_table_in_place_of_the_local(node: Node) -> None:
    assert "is a global rank table, not the instance's own" in refusal(node, GLOBAL, 0, 1)


def test_table_that_is_not_there_or_no_table(node: Node) -> None:
    assert "cannot be read for uid 0: No such file" in refusal(node, "none.json", 0, 1)
    (node.tables / "text.json").write_text("ipaddr")
    assert "is no JSON" in refusal(node, "text.json", 0, 1)


def test_tables_of_another_host(node: Node) -> None:
    def move(table: Any) -> None:
        for group in table.get("server_group_list", [table]):
            for server in group["server_list"]:
                server.update(server_ip="192.0.2.199")

    edit(node.tables / GLOBAL, move)
    edit(node.tables / PREFILL, move)
    assert "server_ip 192.0.2.199 is no address of this host" in refusal(node, PREFILL, 0, 1)


def test_card_without_its_node(node: Node) -> None:
    said = refusal(node, PREFILL, 0)
    assert "ret is -8005: the container has no /dev/davinci1" in said


def test_tensor_parallel_size_must_be_the_number_of_cards(node: Node) -> None:
    said = refusal(node, PREFILL, 0, 1, words=("--tensor-parallel-size", "4"))
    assert "--tensor-parallel-size 4, but the local table has 2 devices (0,1)" in said


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("ip-wrong --device 1", "EI0014: device_ip 10.20.1.2 of device 1"),
        ("ip-unset --device 0", "which has no address"),
        ("link-down --device 0", "EI0006: the link of device 0 is DOWN"),
        ("no-driver", "ret is -8005"),
        ("occupied", "the device is used. ret is -8020"),
    ],
)
def test_card_that_hccl_would_not_bring_up(node: Node, fault: str, text: str) -> None:
    container = node.container(PREFILL, 0, 1)
    server = tables.read(container).server
    node.fault(f"on {fault}")
    with pytest.raises(RefusalError, match=text):
        cards.check(container, server, 2)
    node.fault("off --all")
    cards.check(container, server, 2)


def test_address_that_was_changed_after_the_tables(node: Node) -> None:
    node.hccn_tool("-i 0 -ip -s address 10.20.1.77 netmask 255.255.0.0")
    said = refusal(node, PREFILL, 0, 1)
    assert "10.20.1.1 of device 0 in the rank table is not the card's, which has 10.20.1.77" in said


def test_driver_that_is_not_mounted(node: Node) -> None:
    container = node.container(PREFILL, 0, 1)
    container.path("/usr/local/Ascend/driver").unlink()
    with pytest.raises(RefusalError, match=f"{DRIVER_STATE} cannot be read"):
        cards.check(container, tables.read(container).server, 2)


def test_npu_smi_that_docker_made_a_folder_of(node: Node) -> None:
    container = node.container(PREFILL, 0, 1)
    container.path(NPU_SMI[0]).unlink()
    container.path(NPU_SMI[0]).mkdir()
    with pytest.raises(RefusalError, match="npu-smi is no file"):
        cards.check(container, tables.read(container).server, 2)


def test_card_belongs_to_one_container_until_that_ends(node: Node) -> None:
    with ExitStack() as first:
        for handle in cards.claim(node.container(PREFILL, 0, 1)):
            first.callback(os.close, handle)
        said = refusal(node, DECODE, 1, 2, 3)
        assert "ret is -8020: /dev/davinci1 belongs to another container" in said
    handles = cards.claim(node.container(PREFILL, 0, 1))
    assert len(handles) == 2
    for handle in handles:
        os.close(handle)


def test_logs_that_are_not_mounted(node: Node) -> None:
    container = node.container(PREFILL, 0, 1)
    container.path("/usr/slog").unlink()
    with pytest.raises(RefusalError, match="Is the host's /var/log/npu mounted at /usr/slog"):
        cards.claim(container)


@pytest.mark.parametrize(
    ("words", "role", "text"),
    [
        (["--prefill-batching-policy=gtsf"], "decode", "is for prefill instances"),
        (["--prefill-batching-policy", "fcfs"], "scheduler", "is for prefill instances"),
        (["--prefill-routing-policy=BLB"], "prefill", "is for the scheduler"),
        (["--max-num-batched-tokens=2048"], "prefill", "2048 is less than --max-model-len 4096"),
        (["--max-model-len", "8192"], "scheduler", "4096 is less than --max-model-len 8192"),
    ],
)
def test_arguments_of_another_role_or_size(
    node: Node, words: list[str], role: str, text: str
) -> None:
    with pytest.raises(RefusalError, match=text):
        options.check(options.parse(node.arguments(*words)), role)


@pytest.mark.parametrize(
    "word", ["--prefill-batching-policy=lifo", "--prefill-routing-policy=roundrobin", "--port=0"]
)
def test_value_that_does_not_exist(node: Node, word: str) -> None:
    with pytest.raises(RefusalError, match=word.partition("=")[0]):
        options.parse(node.arguments(word))


def test_length_of_the_model_counts_where_none_is_given(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 32768}')
    asked = options.parse([f"--model={tmp_path}", "--max-num-batched-tokens", "4096"])
    with pytest.raises(RefusalError, match="less than --max-model-len 32768"):
        options.check(asked, "prefill")


def test_model_that_is_not_there(node: Node) -> None:
    node.model = node.root / "none"
    assert "config.json cannot be read: No such file" in refusal(node, PREFILL, 0, 1)
