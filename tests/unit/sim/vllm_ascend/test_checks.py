"""The simulated vllm-ascend needs what the plugin needs, and takes what pdinfra plans."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pdinfra.ranktable.dump import dump
from pdinfra.ranktable.topology import Card, Server, Topology
from pdinfra.ranktable.vllm_ascend import table
from tests.commands import ROOT
from tests.sim.vllm_ascend.simulator.checks import StartError, check
from tests.sim.vllm_ascend.simulator.engine import Engine, read
from tests.unit.builders import ASCEND, TWO_HOSTS, plan, specs

LAUNCHER = ROOT / "tests" / "sim" / "vllm_ascend" / "vllm"
DIST, MOONCAKE = "LLMDataDistCMgrConnector", "MooncakeConnectorV1"
P, D = "prefill-a-0", "decode-b-0"
A, B = "192.0.2.11", "192.0.2.12"


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """Device nodes of four cards, as a container has them."""
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("davinci_manager", "devmm_svm", "hisi_hdc", *(f"davinci{n}" for n in range(4))):
        (folder / name).touch()
    return folder


@pytest.fixture
def ranktable(tmp_path: Path) -> Path:
    """The table as pdinfra writes it: two devices of each host."""

    def server(address: str, host: int) -> Server:
        cards = tuple(Card(device=n, ip=f"10.20.{host}.{n}") for n in (0, 1))
        return Server(address=address, cards=cards)

    path = tmp_path / "ranktable.json"
    whole = Topology(prefill=(server(A, 1),), decode=(server(B, 2),))
    path.write_text(dump(table(whole)), encoding="utf-8")
    return path


def engine(
    connector: str,
    tag: str,
    name: str = P,
    env: Mapping[str, str | None] | None = None,
    transfer: Mapping[str, Any] | None = None,
    **more: Any,
) -> Engine:
    """Return a planned engine as the simulator reads it. env, transfer: changes; None removes."""
    image = f"quay.io/ascend/vllm-ascend:{tag}"
    every = {**ASCEND, "pd_connector": connector, "pd_image": image, **more}
    spec = specs(plan(TWO_HOSTS, {"pd_tensor_parallel_size": 2, **every}))[name]
    changed = {**spec.env, "PDINFRA_SIM_VERSION": tag, **(env or {})}
    environment = {key: value for key, value in changed.items() if value is not None}
    words = list(spec.command[2:])
    at = words.index("--kv-transfer-config") + 1
    config = {**json.loads(words[at]), **(transfer or {})}
    words[at] = json.dumps({key: value for key, value in config.items() if value is not None})
    return read(words, environment)


def tabled(path: Path, **more: str | None) -> dict[str, str | None]:
    return {"DISAGGREGATED_PREFILL_RANK_TABLE_PATH": str(path), **more}


def refused(of: Engine, dev: Path) -> str:
    with pytest.raises(StartError) as caught:
        check(of, dev)
    return str(caught.value)


@pytest.mark.parametrize("tag", ["v0.9.1", "v0.10.0rc1", "v0.10.1rc1", "v0.11.0"])
def test_llmdatadist_starts_as_planned_with_pdinfras_table(
    tag: str, dev: Path, ranktable: Path
) -> None:
    first = engine(DIST, tag, env=tabled(ranktable))
    second = engine(DIST, tag, D, env=tabled(ranktable))
    assert check(first, dev) == (A, 36000)
    assert check(second, dev) == (B, 36200)


@pytest.mark.parametrize("tag", ["v0.10.1rc1", "v0.11.0", "v0.18.0", "v0.23.0"])
def test_mooncake_starts_as_planned(tag: str, dev: Path) -> None:
    assert check(engine(MOONCAKE, tag), dev) == (A, 36000)
    assert check(engine(MOONCAKE, tag, D), dev) == (B, 36200)


def test_the_wrong_name_of_the_port_is_ignored(dev: Path, ranktable: Path) -> None:
    env = tabled(ranktable, VLLM_ASCEND_LLMDD_RPC_PORT=None, VLLM_LLMDD_RPC_PORT="36000")
    assert check(engine(DIST, "v0.10.1rc1", env=env), dev) == (A, 5557)


def test_llmdatadist_needs_a_table(dev: Path, tmp_path: Path) -> None:
    assert "Please set path of rank_table" in refused(engine(DIST, "v0.10.1rc1"), dev)
    missing = engine(DIST, "v0.10.1rc1", env=tabled(tmp_path / "none.json"))
    assert refused(missing, dev).startswith("FileNotFoundError")


@pytest.mark.parametrize(
    ("env", "rank"),
    [
        ({"VLLM_HOST_IP": "192.0.2.99"}, 0),
        ({"ASCEND_RT_VISIBLE_DEVICES": "2,3"}, 0),
        ({"ASCEND_RT_VISIBLE_DEVICES": "1,2"}, 1),
    ],
)
def test_each_rank_has_to_be_in_the_table(
    env: dict[str, str], rank: int, dev: Path, ranktable: Path
) -> None:
    said = refused(engine(DIST, "v0.10.1rc1", env={**tabled(ranktable), **env}), dev)
    assert "Can't read the target server_id" in said
    assert f"device_rank {rank} from rank table" in said


def test_a_role_of_both_is_unexpected(dev: Path, ranktable: Path) -> None:
    both = {"kv_role": "kv_both"}
    said = refused(engine(DIST, "v0.10.1rc1", env=tabled(ranktable), transfer=both), dev)
    assert "Receive unexpected kv role" in said


def test_a_card_without_its_node_is_no_card(dev: Path) -> None:
    (dev / "davinci1").unlink()
    said = refused(engine(MOONCAKE, "v0.11.0"), dev)
    assert "ret is -8005" in said
    assert "no davinci1" in said


@pytest.mark.parametrize(
    ("connector", "planned", "version", "module", "said"),
    [
        (DIST, "v0.11.0", "v0.12.0rc1", "x.y", "ModuleNotFoundError: No module named 'x.y'"),
        (MOONCAKE, "v0.10.1rc1", "v0.10.0rc1", None, f"Unsupported connector type: {MOONCAKE}"),
    ],
)
def test_a_version_without_the_connector(
    connector: str, planned: str, version: str, module: str | None, said: str, dev: Path
) -> None:
    of = engine(
        connector,
        planned,
        env={"PDINFRA_SIM_VERSION": version},
        transfer={"kv_connector_module_path": module},
    )
    assert said in refused(of, dev)


@pytest.mark.parametrize(
    ("transfer", "env", "said"),
    [
        ({"kv_connector_extra_config": {}}, {}, "'tp_size' in parallel_config"),
        (
            {"kv_connector_extra_config": {"prefill": {"tp_size": 2}, "decode": {"tp_size": 4}}},
            {},
            "prefill_tp_size: 2 must be greater than or equal to the decode_tp_size: 4",
        ),
        (
            {"kv_connector_extra_config": {"prefill": {"tp_size": 4}, "decode": {"tp_size": 2}}},
            {},
            "2 ranks, but the connector is told 4",
        ),
        ({}, {"PHYSICAL_DEVICES": "0"}, "Not enough physical devices available for DP rank 0"),
        ({"kv_port": "20001"}, {}, f"Address already in use (addr='tcp://{A}:20001')"),
    ],
)
def test_mooncake_needs_sizes_devices_and_a_port_of_its_own(
    transfer: dict[str, Any], env: dict[str, str], said: str, dev: Path
) -> None:
    assert said in refused(engine(MOONCAKE, "v0.11.0", env=env, transfer=transfer), dev)


def launched(*words: str, **env: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PDINFRA_SIM_VERSION": "v0.10.1rc1", **env}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, str(LAUNCHER), *words],
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


def test_it_says_that_it_is_a_simulator() -> None:
    said, _ = launched("--help").communicate(timeout=30)
    assert said.startswith("SIMULATOR of `vllm` with the plugin vllm-ascend, version v0.10.1rc1")


def test_an_engine_that_cannot_start_ends_with_1_and_the_plugins_words() -> None:
    config = json.dumps({"kv_connector": DIST, "kv_role": "kv_producer"})
    process = launched("serve", "m", "--kv-transfer-config", config)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "SIMULATOR" in error
    assert "ret is -8005" in error


def test_a_port_that_is_taken_leaves_an_engine_that_never_gets_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = (
            "import os, sys; sys.path.insert(0, sys.argv[1]);"
            "from simulator.engine import read; from simulator.main import hold;"
            "hold(read(['--kv-transfer-config', sys.argv[2]], os.environ), '127.0.0.1',"
            " int(sys.argv[3]))"
        )
        config = json.dumps({"kv_connector": DIST, "kv_role": "kv_producer"})
        words = [sys.executable, "-c", code, str(LAUNCHER.parent), config, str(port)]
        environment = {**os.environ, "PDINFRA_SIM_VERSION": "v0.10.1rc1"}
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = process.stderr.readline() + process.stderr.readline()
            assert "Exception in thread metadata_agent_listener" in said
            assert f"Address already in use (addr='tcp://127.0.0.1:{port}')" in said
            assert process.poll() is None
            process.terminate()
            assert process.wait(timeout=10) != 0
