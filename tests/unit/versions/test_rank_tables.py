"""The right format by stack, connector and version."""

from __future__ import annotations

import pytest

from pdinfra.versions.rank_tables import rank_table, rank_tables

DIST = "LLMDataDistCMgrConnector"


def test_every_row_has_a_source() -> None:
    assert all(row.source for row in rank_tables())


def test_ascendcloud() -> None:
    row = rank_table("ascendcloud", None, "swr.example/ascendcloud:1")
    assert row is not None
    assert row.format == "ascendcloud"
    assert row.environment == ("GLOBAL_RANK_TABLE_FILE_PATH", "RANK_TABLE_FILE_PATH")


@pytest.mark.parametrize(
    ("tag", "format_"),
    [
        ("v0.9.1", "vllm-ascend"),
        ("v0.10.0rc1-a3", "vllm-ascend"),
        ("v0.11.0", "vllm-ascend"),
        ("v0.12.0rc1", None),
        ("v0.23.0", None),
    ],
)
def test_llmdatadist(tag: str, format_: str | None) -> None:
    row = rank_table("native", DIST, f"quay.io/ascend/vllm-ascend:{tag}")
    assert row is not None
    assert row.format == format_
    assert row.use == (None if format_ else "MooncakeConnectorV1")


@pytest.mark.parametrize("image", ["quay.io/ascend/vllm-ascend:v0.7.3", "own/image:1"])
def test_llmdatadist_of_an_unknown_version(image: str) -> None:
    assert rank_table("native", DIST, image) is None


@pytest.mark.parametrize(("super_pod", "format_"), [(False, "hccl-1.0"), (True, "hccl-1.2")])
def test_hccl(super_pod: bool, format_: str) -> None:
    row = rank_table("native", super_pod=super_pod)
    assert row is not None
    assert row.format == format_


def test_a_stack_without_rank_tables() -> None:
    assert rank_table("yuanrong") is None
