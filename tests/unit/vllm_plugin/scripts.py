"""Running what must not see this process's modules: the plugin beside a FAKE vLLM in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PLUGIN = Path(__file__).parents[3] / "images" / "vllm-cpu" / "plugin"


def run(script: str, *folders: Path) -> str:
    """Run a script in a Python of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(map(str, (PLUGIN, *folders))), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
