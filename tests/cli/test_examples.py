"""The example inventories are documentation: they must validate and plan."""

from __future__ import annotations

from tests.commands import ROOT, pdinfra

PROD = ROOT / "inventories" / "prod"


def test_the_ascend_example_validates_and_plans_and_says_what_comes_later() -> None:
    result = pdinfra("plan", "--offline", "--json", inventory=PROD)
    assert result.code == 0, result.text
    placed = {(c["id"], c["host"]) for c in result.json["changes"] if c["kind"] == "instance"}
    assert placed == {("prefill-npu-1-0", "npu-1"), ("decode-npu-2-0", "npu-2")}
    assert "stack yuanrong" in result.err
    assert "later" in result.err
