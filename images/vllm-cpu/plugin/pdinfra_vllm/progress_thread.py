"""Let the NIXL progress thread sleep between two polls.

nixl's Python API sets ``pthrDelay = 0`` on every agent, with no way to choose
another value: the progress thread of UCX then polls without a pause and takes
one whole core per engine, even when idle.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Microseconds. Measured over 2 s: 0 costs 1.98 CPU seconds, 1000 costs 0.03.
DELAY_US = 1000

# The package nixl only hands on one of these.
_MODULES = ("nixl_cu12._api", "nixl_cu13._api")


def apply() -> bool:
    """Fix NIXL as soon as something imports it; return whether that is so now.

    It is not imported for the fix: in one process with the libraries of
    openYuanrong's data system it ends in a segmentation fault (measured, nixl
    1.5.1 and datasystem 0.8.1).
    """
    loaded = [sys.modules[name] for name in _MODULES if name in sys.modules]
    if loaded:
        return any([_fix(module) for module in loaded])
    if any(isinstance(finder, _Importing) for finder in sys.meta_path):
        return False
    sys.meta_path.insert(0, _Importing())
    return True


class _Importing(importlib.abc.MetaPathFinder):
    """Sees NIXL being imported, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _MODULES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_fix(module: ModuleType) -> None:
            execute(module)
            _fix(module)

        loader: Any = spec.loader
        loader.exec_module = execute_and_fix
        return spec


def _fix(api: Any) -> bool:
    """Return whether the fix was applied now."""
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
