"""Versions as Huawei and vLLM write them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pdinfra.versions.order import order, within


def test_versions_of_drivers_and_images_are_sorted() -> None:
    drivers = ["23.0.5", "24.1.rc1", "24.1.RC1.1", "24.1.rc2.2", "24.1.0", "25.0.rc1.1", "25.5.2"]
    assert all(order(older) < order(newer) for older, newer in pairwise(drivers))
    images = ["v0.7.3", "v0.9.1", "v0.10.0rc1", "v0.10.0", "v0.13.0"]
    assert all(order(older) < order(newer) for older, newer in pairwise(images))


def test_what_is_left_out_counts_as_nothing() -> None:
    assert order("25.5") == order("25.5.0")
    assert order("25.5.rc1") < order("25.5")


@pytest.mark.parametrize(
    ("version", "low", "high", "inside"),
    [
        ("7.7.0.1.231", "7.0.0", "7.7.99", True),
        ("7.7.0.1.231", "7.0.0", "7.7.0", True),
        ("7.8.0.2.212", "7.0.0", "7.7.99", False),
        ("6.4.12.1.241", "7.0.0", "8.9.9", False),
        ("7.10.0", "7.0.0", "7.9.99", False),
    ],
)
def test_range_holds_the_parts_that_its_ends_name(
    version: str, low: str, high: str, inside: bool
) -> None:
    assert within(version, low, high) is inside
