"""The table of connectors: what a user may choose, and where we know it from."""

from __future__ import annotations

import pytest

from pdinfra.model.inventory import HostSettings
from pdinfra.stacks.kv_transfer import KV_ROLE
from pdinfra.versions.connectors import connectors


def test_every_row_says_where_we_know_it_from() -> None:
    assert all(row.source.strip() for row in connectors().values())


def test_default_connector_works_on_the_default_accelerator() -> None:
    settings = HostSettings()
    row = connectors()[settings.connector]
    assert row.protocol
    assert settings.accelerator in row.accelerators


@pytest.mark.parametrize("accelerator", ["cpu", "nvidia", "ascend"])
def test_every_accelerator_has_a_connector_that_can_be_used(accelerator: str) -> None:
    assert [r for r in connectors().values() if r.protocol and accelerator in r.accelerators]


def test_replacement_that_a_row_names_can_be_used_itself() -> None:
    table = connectors()
    for row in table.values():
        assert row.use is None or table[row.use].protocol, row.name


def test_connectors_of_old_guides_are_known_by_name() -> None:
    assert {"PyNcclConnector", "SharedStorageConnector", "MooncakeConnector"} <= set(connectors())


def test_prefill_and_decode_have_different_kv_roles() -> None:
    assert KV_ROLE["prefill"] != KV_ROLE["decode"]
