from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.ascend.simulator import host
from tests.unit.sim.ascendcloud.instances import Node


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A booted lab host in a folder, with tables for 1P1D."""
    root = tmp_path / "host"
    root.mkdir()
    monkeypatch.setenv(host.ROOT_VARIABLE, str(root))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("tests.sim.ascend.simulator.hccn_tool.TAKES", 0)
    made = Node(root, tmp_path / "tables")
    made.boot()
    return made
