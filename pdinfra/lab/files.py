"""The lab's inventory on disk: written with care, removed only if nobody edited it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pdinfra.driver.look import INVALID, DriverError
from pdinfra.lab import inventory, registry
from pdinfra.lab import state as memory
from pdinfra.lab.images import Say
from pdinfra.lab.names import Lab
from pdinfra.lab.state import State

HOSTS = "hosts.yml"
VARIABLES = "group_vars/all.yml"


def write(lab: Lab, state: State, addresses: Mapping[str, str], say: Say) -> None:
    """Add the lab's hosts to hosts.yml; write group_vars/all.yml if there is none.

    Raises DriverError if hosts.yml is no inventory.
    """
    path = lab.inventory / HOSTS
    before = path.read_text() if path.is_file() else None
    try:
        text = inventory.hosts(lab, addresses, before)
        differences = inventory.stale(text, addresses)
    except ValueError as error:
        fix = "mend it, or delete it: `lab up` writes a new one"
        raise DriverError([f"{path}: {error}. Fix: {fix}"], INVALID) from None
    for line in differences:
        say(f"{path.relative_to(lab.root)}: {line}")
    written = dict(state.written)
    if text != before:
        edited = before is not None and _digest(before) != written.get(HOSTS)
        written[HOSTS] = "" if edited else _digest(text)
        _put(path, text)
    if not (lab.inventory / VARIABLES).exists():
        text = inventory.variables(lab, registry.push_prefix(state))
        written[VARIABLES] = _digest(text)
        _put(lab.inventory / VARIABLES, text)
    memory.save(lab, state.model_copy(update={"written": written}))


def remove(lab: Lab, state: State) -> list[str]:
    """Remove the inventory's files that are as the lab wrote them; return those that stay."""
    stay = []
    for name, digest in state.written.items():
        path = lab.inventory / name
        if path.is_file() and _digest(path.read_text()) == digest:
            path.unlink()
        elif path.is_file():
            stay.append(str(path.relative_to(lab.root)))
    for folder in (lab.inventory / "group_vars", lab.inventory):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    memory.save(lab, state.model_copy(update={"written": {}}))
    return stay


def groups(lab: Lab) -> dict[str, list[str]]:
    """Return each host's groups, as the inventory says now; none if it cannot be read."""
    try:
        return inventory.groups((lab.inventory / HOSTS).read_text())
    except (OSError, ValueError):
        return {}


def _put(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _digest(text: str) -> str:
    """Return what tells whether a file is as the lab left it."""
    return hashlib.sha256(text.encode()).hexdigest()
