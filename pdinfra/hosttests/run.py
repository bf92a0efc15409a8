"""Run the suite from within pdinfra: pytest, without its output."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import pytest

from pdinfra.driver.look import FAILED, DriverError
from pdinfra.hosttests.look import Look
from pdinfra.hosttests.suite import FOLDER, Suite
from pdinfra.model.hosttests import HostTest
from pdinfra.model.plan import HostPlan

MADE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def run_suite(hosts: Sequence[HostPlan], look: Look) -> list[HostTest]:
    """Return what every test found, host by host. Raises DriverError if pytest itself fails."""
    suite = Suite(tuple(hosts), look)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main([str(FOLDER), "-q", "-p", "no:cacheprovider"], plugins=[suite])
    if code not in MADE:
        raise DriverError([f"pytest ended with {code!s}", *said.getvalue().splitlines()], FAILED)
    order = {host.name: n for n, host in enumerate(hosts)}
    return sorted(suite.results, key=lambda test: order.get(test.host, -1))
