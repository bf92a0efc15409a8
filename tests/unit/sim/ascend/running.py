"""Run the simulator's commands in place."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sim.ascend.simulator import boot, fault_command, hccn_tool, npu_smi, run_package
from tests.sim.ascend.simulator.host import Host
from tests.sim.ascend.simulator.installer import Kind, Outcome, Package


@dataclass(frozen=True)
class Simulated:
    """A host in a folder."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    def boot(self, *options: str, npus: int = 2, profile: str = "a2-98") -> None:
        words = ["--npus", str(npus), "--profile", profile, "--host-index", "1", *options]
        assert self._run(boot.main, words)[0] == 0

    def npu_smi(self, words: str) -> tuple[int, str]:
        return self._run(npu_smi.main, words.split())

    def hccn_tool(self, words: str) -> tuple[int, str]:
        return self._run(hccn_tool.main, words.split())

    def fault(self, words: str) -> str:
        code, text = self._run(fault_command.main, words.split())
        assert code == 0
        return text

    def package(self, kind: Kind, version: str, outcome: Outcome = "ok", arch: str = "") -> Path:
        machine = None if kind == "firmware" else arch or platform.machine()
        return run_package.make(Package(kind, version, machine, outcome), self.root / "packages")

    def run(self, package: Path, words: str) -> tuple[int, str]:
        return self._run(run_package.main, [str(package), *words.split()])

    def read(self, path: str) -> str:
        return Host(self.root).path(path).read_text()

    def exists(self, path: str) -> bool:
        return Host(self.root).path(path).exists()

    def _run(self, main: Callable[[Sequence[str]], int], words: list[str]) -> tuple[int, str]:
        self.capsys.readouterr()
        code = main(words)
        return code, self.capsys.readouterr().out
