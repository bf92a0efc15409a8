"""Let the NIXL progress thread sleep between two polls.

nixl's Python API sets ``pthrDelay = 0`` on every agent, with no way to choose
another value: the progress thread of UCX then polls without a pause and takes
one whole core per engine, even when idle.
"""

from __future__ import annotations

import sys
from typing import Any

# Microseconds. Measured over 2 s: 0 costs 1.98 CPU seconds, 1000 costs 0.03.
DELAY_US = 1000


def apply() -> bool:
    """Return whether the fix was applied now."""
    try:
        from nixl._api import nixl_agent
    except ImportError:
        return False
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
        config.__setattr__(self, name, DELAY_US if name == "pthrDelay" else value)  # type: ignore[call-arg]

    return type("nixlAgentConfig", (config,), {"__setattr__": set_attribute})
