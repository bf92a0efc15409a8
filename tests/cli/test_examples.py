"""The example inventories are documentation: they must validate and plan."""

from __future__ import annotations

import json

import pytest

from tests.commands import ROOT, pdinfra

PROD = ROOT / "inventories" / "prod"


def test_the_yuanrong_example_validates_and_plans_etcd_workers_and_engines() -> None:
    result = pdinfra("plan", "--offline", "--json", inventory=ROOT / "inventories" / "yuanrong")
    assert result.code == 0, result.text
    placed = {(c["kind"], c["host"]) for c in result.json["changes"]}
    assert {("etcd", f"cpu-{n}") for n in (1, 2, 3)} <= placed
    assert {("worker", "cpu-2"), ("worker", "cpu-3")} <= placed
    assert ("worker", "cpu-1") not in placed


def test_the_ascend_example_validates_and_plans_nodes_and_what_is_deployed_on_them() -> None:
    result = pdinfra("plan", "--offline", "--json", inventory=PROD)
    assert result.code == 0, result.text
    placed = {(c["kind"], c["host"]) for c in result.json["changes"]}
    assert placed == {
        ("image", "npu-1"),
        ("master", "npu-1"),
        ("image", "npu-2"),
        ("agent", "npu-2"),
        ("deployment", "npu-1"),
    }


def test_the_ascend_example_is_refused_until_the_operator_brings_what_it_names() -> None:
    result = pdinfra("up", "--yes", inventory=PROD)
    assert result.code == 2, result.text
    for said in (
        "no folder /workspace/tools/wheels",
        "no file /workspace/tools/patch/0001-implement-chariot",
        "/workspace/tools/deploy has no run_vllm_on_yr.sh",
    ):
        assert said in result.err


@pytest.mark.parametrize(
    ("name", "placed", "config"),
    [
        (
            "one-host",
            {("prefill-gpu-1-0", "gpu-1"), ("decode-gpu-1-0", "gpu-1")},
            {"kv_connector": "PyNcclConnector", "kv_rank": 1, "kv_parallel_size": 2},
        ),
        (
            "two-hosts",
            {("prefill-gpu-1-0", "gpu-1"), ("decode-gpu-2-0", "gpu-2")},
            {"kv_connector": "SharedStorageConnector", "kv_role": "kv_consumer"},
        ),
    ],
)
def test_the_nvidia_examples_validate_and_plan_the_guides_two_modes(
    name: str, placed: set[tuple[str, str]], config: dict[str, object]
) -> None:
    inventory = ROOT / "inventories" / f"nvidia-{name}"
    result = pdinfra("plan", "--offline", "--json", "--commands", inventory=inventory)
    assert result.code == 0, result.text
    changes = result.json["changes"]
    assert {(c["id"], c["host"]) for c in changes if c["kind"] == "instance"} == placed
    decode = next(words for key, words in result.json["commands"].items() if "decode" in key)
    told = json.loads(decode[decode.index("--kv-transfer-config") + 1])
    assert config.items() <= told.items()


IMAGE = "registry.example.com/ascendcloud/llm-inference:6.5.906"
TABLES = "/var/lib/pdinfra/pd/ranktables"


def of_cards(host: str, **instances: int) -> set[tuple[str, str, str]]:
    """Return what a host with cards is to have: image, tables, so many instances of each role."""
    named = {(role, n) for role, count in instances.items() for n in range(count)}
    own = {("instance", f"{role}-{host}-{n}", host) for role, n in named}
    return {("image", IMAGE, host), ("ranktable", TABLES, host), *own}


ASCENDCLOUD = [
    pytest.param(
        "1p1d",
        of_cards("npu-1", prefill=1, decode=1) | {("router", "router", "npu-1")},
        id="1p1d",
    ),
    pytest.param(
        "2p2d",
        of_cards("npu-1", prefill=1, decode=1)
        | of_cards("npu-2", prefill=1, decode=1)
        | {("router", "router", "npu-1")},
        id="2p2d",
    ),
    pytest.param(
        "many",
        of_cards("npu-1", prefill=2)
        | of_cards("npu-2", prefill=2)
        | of_cards("npu-3", decode=4)
        | of_cards("npu-4", decode=4)
        | of_cards("cpu-1")
        | {("router", "router", "cpu-1")},
        id="many",
    ),
]


@pytest.mark.parametrize(("name", "wanted"), ASCENDCLOUD)
def test_the_ascendcloud_examples_validate_and_plan_their_instances_and_tables(
    name: str, wanted: set[tuple[str, str, str]]
) -> None:
    inventory = ROOT / "inventories" / f"ascendcloud-{name}"
    result = pdinfra("plan", "--offline", "--json", inventory=inventory)
    assert result.code == 0, result.text
    assert {(c["kind"], c["id"], c["host"]) for c in result.json["changes"]} == wanted
    assert {c["action"] for c in result.json["changes"]} == {"create"}
