"""How the tests are spread over processes, where there are several (`-n`)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lanes import ENGINES, lane, place


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the lanes. Raises UsageError for real engines that another lane would start."""
    for item in items:
        fleet = item.get_closest_marker("lab") and "fleet" in getattr(item, "fixturenames", ())
        if (fleet or item.get_closest_marker("service")) and lane(item.nodeid) != ENGINES:
            raise pytest.UsageError(f"{item.nodeid} starts engines: name its file in lanes.py")
    if hasattr(config, "workerinput"):  # One of several processes.
        items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Hand out whole lanes. xdist's own marker for that says nothing to it under pytest 9.2."""
    # There only to run tests in several processes.
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = lane
    return scheduler
