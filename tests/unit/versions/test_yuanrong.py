"""The tables of openYuanrong: what works with what, and what is said where nothing does."""

from __future__ import annotations

import pytest

from pdinfra.versions.table import VersionError
from pdinfra.versions.yuanrong import (
    datasystem_problem,
    default_ports,
    engine,
    engines,
    release,
    releases,
)
from pdinfra.yuanrong.commands import Ports

IMAGE = "quay.io/ascend/vllm-ascend:"


def test_every_row_says_where_we_know_it_from() -> None:
    assert all(row.source.strip() for row in releases())
    assert all(row.source.strip() for row in engines())


def test_every_port_of_a_node_is_one_that_openyuanrong_has() -> None:
    assert set(vars(Ports())) == set(default_ports())


@pytest.mark.parametrize(
    ("version", "dialect", "wheels", "client"),
    [
        ("0.5.0", "flags", 2, "datasystem"),
        ("0.6.3", "flags", 2, "yr.datasystem"),
        ("0.7.0", "toml", 4, "yr.datasystem"),
        ("9.9.9", "toml", 4, "yr.datasystem"),
    ],
)
def test_release_by_version(version: str, dialect: str, wheels: int, client: str) -> None:
    row = release(version)
    assert (row.dialect, len(row.wheels), row.client) == (dialect, wheels, client)


def test_guides_install_path_is_the_table_s() -> None:
    # "例如：/usr/local/Python-3.11.9/lib/python3.11/site-packages/yr/inner", and
    # "LD_LIBRARY_PATH=${YR_INSTALL_PATH}/function_system/lib"
    assert release("0.5.0").install_dir == "yr/inner"
    assert release("0.5.0").library_dir == "function_system/lib"


@pytest.mark.parametrize("version", ["0.4.0", "latest", ""])
def test_unknown_release_is_refused_with_one_that_is_known(version: str) -> None:
    with pytest.raises(VersionError, match=r"Fix: use 0\.5\.0 or newer"):
        release(version)


@pytest.mark.parametrize(
    ("tag", "connector", "patch", "config"),
    [
        ("v0.10.0rc1-openeuler", "YuanRongConnector", True, "DS_WORKER_ADDR"),
        ("v0.13.0rc1", "AscendStoreConnector", True, "DS_WORKER_ADDR"),
        ("v0.22.1rc1-openeuler", "AscendStoreConnector", False, "DS_WORKER_ADDR"),
        ("v0.23.0-a3-openeuler", "AscendStoreConnector", False, "DS_WORKER_ADDR"),
        ("v0.25.1rc1", "AscendStoreConnector", False, "DS_WORKER_ADDR"),
        ("main-openeuler", "AscendStoreConnector", False, "YR_CONFIG_PATH"),
    ],
)
def test_engine_by_image(tag: str, connector: str, patch: bool, config: str) -> None:
    row = engine(f"{IMAGE}{tag}")
    assert (row.connector, row.patch, row.config) == (connector, patch, config)
    assert row.backend == (None if connector == "YuanRongConnector" else "yuanrong")


@pytest.mark.parametrize("tag", ["v0.9.1", "v0.10.1rc1", "v0.11.0", "v0.13.0", "v0.18.0"])
def test_image_without_a_connector_is_refused_with_those_that_have_one(tag: str) -> None:
    with pytest.raises(VersionError, match=r"v0\.10\.0rc1, .*v0\.22\.1rc1 or newer"):
        engine(f"{IMAGE}{tag}")


@pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.32.0", f"{IMAGE}latest", "ubuntu"])
def test_image_of_nobody_we_know_is_refused(image: str) -> None:
    with pytest.raises(VersionError, match="is not an image of vllm-ascend with its version"):
        engine(image)


def test_data_system_of_the_package_index_works_where_it_was_seen_to() -> None:
    assert datasystem_problem(f"{IMAGE}v0.23.0", "0.8.1") is None
    assert datasystem_problem(f"{IMAGE}v0.10.0rc1-openeuler", "0.5.0") is None


def test_data_system_too_old_or_too_new_is_named_with_the_right_one() -> None:
    old = datasystem_problem(f"{IMAGE}main", "0.8.1")
    assert old is not None
    assert "Fix: use 0.9.2 or newer" in old
    new = datasystem_problem(f"{IMAGE}v0.10.0rc1", "0.9.2")
    assert new is not None
    assert "no longer has" in new
    assert "up to, not including, 0.9.2" in new
