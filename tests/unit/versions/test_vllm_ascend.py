"""Which image has which of vllm-ascend's connectors, and what is said where it has not."""

from __future__ import annotations

import pytest

from pdinfra.versions.connectors import connectors
from pdinfra.versions.rank_tables import rank_table
from pdinfra.versions.table import VersionError, is_a3
from pdinfra.versions.vllm_ascend import variant, variants

DIST = "LLMDataDistCMgrConnector"
MOONCAKE = "MooncakeConnectorV1"
IMAGE = "quay.io/ascend/vllm-ascend:"


def test_every_row_has_a_source_and_a_connector_that_pdinfra_drives() -> None:
    assert all(row.source for row in variants())
    assert {connectors()[row.connector].protocol for row in variants()} == {"nixl"}


@pytest.mark.parametrize(
    ("tag", "variable"),
    [
        ("v0.9.1", "VLLM_LLMDD_RPC_PORT"),
        ("v0.10.0rc1-openeuler", "VLLM_LLMDD_RPC_PORT"),
        ("v0.10.1rc1", "VLLM_ASCEND_LLMDD_RPC_PORT"),
        ("v0.11.0rc1-a3", "VLLM_ASCEND_LLMDD_RPC_PORT"),
        ("v0.11.0", "VLLM_ASCEND_LLMDD_RPC_PORT"),
    ],
)
def test_llmdatadists_port_has_another_name_since_v0_10_1(tag: str, variable: str) -> None:
    assert variant(DIST, IMAGE + tag).port == variable


@pytest.mark.parametrize(
    ("tag", "direct", "module"),
    [
        ("v0.10.1rc1", False, True),
        ("v0.11.0rc1", False, True),
        ("v0.11.0rc2", True, True),
        ("v0.13.0", True, True),
        ("v0.18.0-a3-openeuler", True, False),
        ("v0.23.0", False, False),
    ],
)
def test_mooncake_by_version(tag: str, direct: bool, module: bool) -> None:
    row = variant(MOONCAKE, f"m.daocloud.io/{IMAGE}{tag}")
    assert row.extra == ({"use_ascend_direct": True} if direct else {})
    assert (row.module is not None) == module
    assert row.sizes


@pytest.mark.parametrize(
    ("connector", "image", "said", "fix"),
    [
        (DIST, f"{IMAGE}v0.7.3", "v0.7.3 does not have", "from v0.9.1 on, before v0.12.0rc1"),
        (DIST, f"{IMAGE}v0.12.0rc1", "v0.12.0rc1 removed", f"set pd_connector to {MOONCAKE}"),
        (DIST, f"{IMAGE}v0.23.0", "v0.12.0rc1 removed", "from v0.9.1 on, before v0.12.0rc1"),
        (MOONCAKE, f"{IMAGE}v0.10.0rc1", "v0.10.0rc1 does not have", "from v0.10.1rc1 on"),
        (MOONCAKE, "registry.example/own:1", "tells no version", "from v0.10.1rc1 on"),
        (MOONCAKE, f"{IMAGE}main", "tells no version", "quay.io/ascend/vllm-ascend:VERSION"),
    ],
)
def test_an_image_without_the_connector_is_told_the_right_one(
    connector: str, image: str, said: str, fix: str
) -> None:
    with pytest.raises(VersionError) as caught:
        variant(connector, image)
    cause, _, mend = str(caught.value).partition(". Fix: ")
    assert said in cause
    assert fix in mend


@pytest.mark.parametrize("tag", ["v0.9.1", "v0.10.0rc1", "v0.10.1rc1", "v0.11.0", "v0.11.0-a3"])
def test_images_with_llmdatadist_read_a_rank_table(tag: str) -> None:
    assert variant(DIST, IMAGE + tag).use is None
    row = rank_table("native", DIST, IMAGE + tag)
    assert row is not None
    assert row.format == "vllm-ascend"


@pytest.mark.parametrize(
    ("tag", "a3"),
    [
        ("v0.11.0", False),
        ("v0.11.0-a3", True),
        ("v0.11.0-a3-openeuler", True),
        ("v0.11.0-a3f00d", False),
        ("v0.11.0-openeuler", False),
    ],
)
def test_images_for_a3_say_so_in_their_tag(tag: str, a3: bool) -> None:
    assert is_a3(IMAGE + tag) is a3
