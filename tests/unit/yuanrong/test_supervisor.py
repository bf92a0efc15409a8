"""The node's main process: what it waits for, when it ends, what it leaves for others to read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from pdinfra.yuanrong.commands import Node
from pdinfra.yuanrong.runner import Result, RunError, Runner, Settings
from pdinfra.yuanrong.supervisor import Supervisor

MASTER, AGENT = "192.0.2.11", "192.0.2.12"


class FakeRunner:
    """FAKE: a node whose ports, daemons and count are what the test says, look by look."""

    def __init__(self, state: Path, address: str = MASTER) -> None:
        node = Node(address, MASTER, "/var/lib/yr", 512)
        self.settings = Settings(node=node, agents=2, state=str(state))
        self.node = node
        self.looks: list[Callable[[], list[str]]] = []
        self.pids = [7]
        self.reached = True
        self.did: list[str] = []
        self.count: int | None = 2
        self.stop_event = threading.Event()

    def start(self) -> Result:
        self.did.append("start")
        return Result("openYuanrong started", changed=True)

    def stop(self) -> Result:
        self.did.append("stop")
        return Result("openYuanrong stopped", changed=True)

    def reaches_master(self) -> bool:
        self.did.append("asked")
        return self.reached or len(self.did) > 2

    def daemons(self) -> list[int]:
        return self.pids

    def lost(self) -> list[str]:
        if not self.looks:
            self.stop_event.set()
            return []
        return self.looks.pop(0)()

    def counted(self) -> int | None:
        return self.count


def supervise(runner: FakeRunner, patience: float = 0.0) -> list[str]:
    said: list[str] = []
    kept = Supervisor(cast(Runner, runner), said.append, every=0.01, patience=patience)
    kept.run(runner.stop_event)
    return said


def test_it_starts_watches_counts_and_stops_when_told_to(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    (tmp_path / "deployment").write_text("of an earlier life")
    said = supervise(runner)
    assert runner.did == ["start", "stop"]
    assert said[0] == "changed: openYuanrong started"
    assert "yr status counts 2 agents" in said
    assert not (tmp_path / "deployment").exists()


def test_an_agent_waits_for_its_master_and_counts_nobody(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, AGENT)
    runner.reached = False
    said = supervise(runner)
    assert said[0] == f"waiting for the master's etcd at {MASTER}:22440"
    assert runner.did[-2:] == ["start", "stop"]
    assert "yr status counts 2 agents" not in said


def test_what_comes_back_in_time_is_said_and_ends_nothing(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)

    def ill() -> list[str]:
        return ["ds_worker does not listen"]

    runner.looks = [ill, ill, list]
    said = supervise(runner, patience=60)
    assert "ill: ds_worker does not listen" in said
    assert runner.did == ["start", "stop"]


@pytest.mark.parametrize("part", ["ports", "daemon"])
def test_a_dead_node_ends_it_so_that_docker_starts_it_anew(tmp_path: Path, part: str) -> None:
    runner = FakeRunner(tmp_path)

    def dies() -> list[str]:
        if part == "daemon":
            runner.pids = []
        return ["etcd does not listen"] if part == "ports" else []

    runner.looks = [dies, dies]
    with pytest.raises(RunError, match=r"is dead: .*Fix: Docker starts the container anew"):
        supervise(runner)
    assert runner.did == ["start"]


def test_a_status_without_a_number_is_no_number(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    runner.count = None
    assert "yr status counts no agents" in supervise(runner)
