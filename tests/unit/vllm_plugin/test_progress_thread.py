"""The fix of NIXL takes when NIXL is loaded, and does not load it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.vllm_plugin import scripts

# As nixl 1.5.1 is made: a package that hands out the modules of the one for CUDA.
NIXL = """
import importlib, sys
for name in ("_bindings", "_api"):
    sys.modules["nixl." + name] = importlib.import_module("nixl_cu12." + name)
"""
BINDINGS = """
class nixlAgentConfig:
    pass
"""
API = """
from . import _bindings as nixlBind
class nixl_agent:
    def __init__(self):
        self.config = nixlBind.nixlAgentConfig()
        self.config.pthrDelay = 0
"""


@pytest.fixture
def nixl(tmp_path: Path) -> Path:
    """Return a directory to import a stand-in for nixl from."""
    for name, content in {
        "nixl/__init__.py": NIXL,
        "nixl_cu12/__init__.py": "",
        "nixl_cu12/_bindings.py": BINDINGS,
        "nixl_cu12/_api.py": API,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def run(script: str, *folders: Path) -> list[str]:
    """Return the words that a script prints."""
    start = "import sys; from pdinfra_vllm import progress_thread"
    return scripts.run(f"{start}\n{script}", *folders).split()


def test_it_waits_until_somebody_loads_nixl(nixl: Path) -> None:
    script = """
print(progress_thread.apply(), progress_thread.apply(), "nixl" in sys.modules)
from nixl._api import nixl_agent
print(nixl_agent().config.pthrDelay, progress_thread.apply())
"""
    assert run(script, nixl) == ["True", "False", "False", "1000", "False"]


def test_nixl_that_is_loaded_already_is_mended_at_once(nixl: Path) -> None:
    script = """
from nixl._api import nixl_agent
print(nixl_agent().config.pthrDelay, progress_thread.apply(), nixl_agent().config.pthrDelay)
"""
    assert run(script, nixl) == ["0", "True", "1000"]


def test_without_nixl_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert run("print(progress_thread.apply())", tmp_path) == ["False"]
