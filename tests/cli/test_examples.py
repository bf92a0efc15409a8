"""The example inventories are documentation: they must validate and plan."""

from __future__ import annotations

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
