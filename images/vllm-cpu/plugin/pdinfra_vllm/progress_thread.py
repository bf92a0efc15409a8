"""Let the NIXL progress thread sleep between two polls.

nixl's Python API sets ``pthrDelay = 0`` on every agent, with no way to choose
another value: the progress thread of UCX then polls without a pause and takes
one whole core per engine, even when idle.

The fix waits until somebody loads NIXL: a process that has loaded it dies when
it loads openYuanrong's client (``yr.datasystem`` 0.8.1), and the other way
round. Both bring an abseil of their own, and their symbols collide (measured).
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

# Microseconds. Measured over 2 s: 0 costs 1.98 CPU seconds, 1000 costs 0.03.
DELAY_US = 1000


def apply() -> bool:
    """Return whether the fix was applied now, or will be when NIXL is loaded."""
    if "nixl" in sys.modules:
        return _patch()
    if any(isinstance(finder, _WhenLoaded) for finder in sys.meta_path):
        return False
    if importlib.util.find_spec("nixl") is None:
        return False
    sys.meta_path.insert(0, _WhenLoaded())
    return True


class _WhenLoaded(MetaPathFinder):
    """Finds nothing itself, but sees NIXL being loaded."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != "nixl":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("nixl")
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_patch(module: Any) -> None:
            execute(module)
            _patch()

        loader.exec_module = execute_and_patch
        return spec


def _patch() -> bool:
    from nixl._api import nixl_agent

    # nixl only re-exports the API of nixl_cu12 or nixl_cu13: patch that one.
    api: Any = sys.modules[nixl_agent.__module__]
    bindings: Any = api.nixlBind
    if isinstance(bindings, _Bindings):
        return False
    api.nixlBind = _Bindings(bindings)
    return True


class _Bindings:
    """The native bindings, but for the class of an agent's configuration."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.nixlAgentConfig = _sleeping(original.nixlAgentConfig)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _sleeping(config: type[Any]) -> type[Any]:
    """Return the class with its ``pthrDelay`` held at ours."""

    def set_attribute(self: Any, name: str, value: Any) -> None:
        config.__setattr__(self, name, DELAY_US if name == "pthrDelay" else value)

    return type("nixlAgentConfig", (config,), {"__setattr__": set_attribute})
