"""What a lab remembers between commands: its subnet, its registry's port, what it wrote."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pdinfra.lab.names import Lab


class State(BaseModel):
    """One lab's memory. ``written``: digests of the inventory files as the lab left them."""

    model_config = ConfigDict(frozen=True)

    subnet: IPv4Network
    registry_port: int
    written: dict[str, str] = {}


def load(lab: Lab) -> State | None:
    """Return a lab's memory, or None before its first `lab up`."""
    path = _path(lab)
    return State.model_validate_json(path.read_text()) if path.is_file() else None


def save(lab: Lab, state: State) -> None:
    """Write a lab's memory."""
    lab.home.mkdir(parents=True, exist_ok=True)
    _path(lab).write_text(state.model_dump_json(indent=2) + "\n")


def _path(lab: Lab) -> Path:
    """Return the file."""
    return lab.home / "lab.json"
