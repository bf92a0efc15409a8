"""Containers that were started → are they all healthy, still coming, or lost?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from pdinfra.model.facts import ContainerFact

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
GROUP = re.compile(r'"kv_parallel_size": *([2-9]\d*)')
CRASH_LOOP = 3
"""Restarts after which a container is not going to come up by itself."""


class Waiting(BaseModel):
    """How far a host's containers are. ``done`` when there is nothing left to wait for."""

    model_config = ConfigDict(frozen=True)

    done: bool
    waiting: tuple[str, ...]
    failed: tuple[str, ...]


def waiting(ids: Sequence[str], containers: Iterable[ContainerFact]) -> Waiting:
    """Compare the containers with the ids that must become healthy."""
    found = {container.id: container for container in containers}
    pending, failed = [], []
    for name in ids:
        container = found.get(name)
        if container is None:
            failed.append(f"{name}: the container is gone")
        elif container.health == "healthy" and container.state == "running":
            continue
        elif _lost(container):
            failed.append(_why(container))
        else:
            pending.append(f"{name}: {_last_words(container)}")
    return Waiting(done=not pending or bool(failed), waiting=tuple(pending), failed=tuple(failed))


def _last_words(container: ContainerFact) -> str:
    """Return the last log line without colours and the logger's preamble, or the state.

    Engines that wait for each other say nothing of it: their own configuration does.
    """
    group = next((found for word in container.spec.command if (found := GROUP.search(word))), None)
    together = f"waits until all {group.group(1)} engines of its group are there; " if group else ""
    if not container.last_log:
        return f"{together}{container.state}"
    line = COLOURS.sub("", container.last_log[-1]).strip()
    return together + (line.rpartition("] ")[2][:80] or container.state)


def _lost(container: ContainerFact) -> bool:
    """Tell whether waiting longer would not help."""
    if container.state in ("exited", "dead", "paused") or container.health == "unhealthy":
        return True
    return container.restarts >= CRASH_LOOP


def _why(container: ContainerFact) -> str:
    """Return the state and the log lines that a person would look at first."""
    log = "\n    ".join(container.last_log)
    return (
        f"{container.id}: {container.state}, {container.health}, exit code {container.exit_code}, "
        f"{container.restarts} restarts. Its last words:\n    {log}"
    )
