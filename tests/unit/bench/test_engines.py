"""A deployment whose engines have no addresses is refused, not measured as nothing."""

from __future__ import annotations

import pytest

from pdinfra.bench.engines import need_engines
from pdinfra.bench.load import chosen
from pdinfra.driver.look import INVALID, DriverError
from tests.unit.builders import plan
from tests.unit.planning.test_cluster import full


def test_openyuanrongs_own_engines_are_not_measured_one_by_one() -> None:
    with pytest.raises(DriverError) as refused:
        chosen(full(), None)
    assert refused.value.code == INVALID
    assert "pd_connector YuanRongConnector: its engines are openYuanrong's own" in str(
        refused.value
    )
    assert "bench dataset" in str(refused.value)


def test_engines_with_addresses_are() -> None:
    need_engines(plan())
