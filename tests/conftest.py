"""How the tests are spread over processes, where there are several (`-n`)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lanes import ENGINES, lane, place


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the lanes. Raises UsageError for a test that would make the fleet once more."""
    for item in items:
        fleet = "fleet" in getattr(item, "fixturenames", ()) and item.get_closest_marker("lab")
        if fleet and lane(item.nodeid) != ENGINES:
            raise pytest.UsageError(f"{item.nodeid} uses the fleet: name its file in lanes.py")
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
