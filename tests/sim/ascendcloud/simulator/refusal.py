"""How the simulator refuses to start."""

from __future__ import annotations


class RefusalError(Exception):
    """Why this instance does not start: what was found, and what was expected."""
