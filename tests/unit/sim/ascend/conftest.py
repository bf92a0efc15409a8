from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.ascend.simulator import host
from tests.unit.sim.ascend.running import Simulated


@pytest.fixture
def simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Simulated:
    """A folder in place of a host, the caller in place of root."""
    monkeypatch.setenv(host.ROOT_VARIABLE, str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("tests.sim.ascend.simulator.hccn_tool.TAKES", 0)
    return Simulated(tmp_path, capsys)
