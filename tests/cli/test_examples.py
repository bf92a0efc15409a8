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


def test_the_ascend_example_validates_and_plans_and_says_what_comes_later() -> None:
    result = pdinfra("plan", "--offline", "--json", inventory=PROD)
    assert result.code == 0, result.text
    placed = {(c["id"], c["host"]) for c in result.json["changes"] if c["kind"] == "instance"}
    assert placed == {("prefill-npu-1-0", "npu-1"), ("decode-npu-2-0", "npu-2")}
    assert "stack yuanrong" in result.err
    assert "later" in result.err
