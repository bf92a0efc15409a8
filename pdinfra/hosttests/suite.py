"""The pytest plugin of the suite: what is planned, how a host is looked at, what came of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

from pdinfra.hosttests.look import Look
from pdinfra.hosttests.seen import Seen
from pdinfra.model.hosttests import HostTest
from pdinfra.model.plan import HostPlan

FOLDER = Path(__file__).resolve().parent
AT_ONCE = 16
"""Hosts looked at side by side: each is one ssh, which mostly waits."""


@dataclass(eq=False)
class Suite:
    """One run of the suite over some hosts of a plan."""

    hosts: tuple[HostPlan, ...]
    look: Look
    results: list[HostTest] = field(default_factory=list)

    @cached_property
    def seen(self) -> dict[str, Seen]:
        """What every host said, asked once, all at the same time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(self.look, self.hosts)
            return dict(zip((host.name for host in self.hosts), found, strict=True))

    @classmethod
    def of(cls, config: pytest.Config) -> Suite | None:
        """Return the suite of a run of pytest, if it is registered."""
        plugins = config.pluginmanager.get_plugins()
        return next((plugin for plugin in plugins if isinstance(plugin, cls)), None)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a test's outcome: of its call, or of what kept it from being called."""
        if report.when != "call" and report.passed:
            return
        said = dict(report.user_properties)
        reason = ""
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed and "found" not in said:
            reason = report.longreprtext.strip().splitlines()[-1]
        self.results.append(
            HostTest(
                host=str(said.get("host", "")),
                test=report.nodeid.rpartition("::")[2],
                outcome=report.outcome,
                found=str(said.get("found", reason)),
                expected=str(said.get("expected", "")),
            )
        )
