"""The fix of idle workers takes where vLLM is as it was measured, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.vllm_plugin.scripts import run

CONDITION = """
class SpinCondition:
    def __init__(self, is_reader, context, notify_address, {last}):
        self.busy_loop_s = {name}
"""
SCRIPT = """
from pdinfra_vllm import idle_workers
applied = idle_workers.apply(), idle_workers.apply()
from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
print(*applied, SpinCondition(True, None, "").busy_loop_s)
"""


@pytest.mark.parametrize(
    ("last", "name", "expected"),
    [
        # vLLM 0.32.0, vllm/distributed/device_communicators/shm_broadcast.py
        ("busy_loop_s: float = 1", "busy_loop_s", "True False 0.001"),
        ("busy_loop_s: float = 0.2", "busy_loop_s", "False False 0.2"),
        ("other: str = 'x', busy_loop_s: float = 1", "busy_loop_s", "False False 1"),
    ],
)
def test_it_takes_only_where_vllm_is_as_measured(
    tmp_path: Path, last: str, name: str, expected: str
) -> None:
    module = tmp_path / "vllm" / "distributed" / "device_communicators" / "shm_broadcast.py"
    module.parent.mkdir(parents=True)
    module.write_text(CONDITION.format(last=last, name=name))
    assert run(SCRIPT, tmp_path) == expected


def test_without_vllm_it_does_nothing() -> None:
    assert run("from pdinfra_vllm import idle_workers; print(idle_workers.apply())") == "False"
