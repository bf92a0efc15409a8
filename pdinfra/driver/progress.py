"""What is happening, for people: a spinner on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

from pdinfra.driver.run import Event
from pdinfra.planning.waiting import waiting
from pdinfra.reading.host import container_facts
from pdinfra.reading.registry import transfers

QUIET_SECONDS = 2.0
"""A task shorter than this is nobody's business."""
REPEAT_SECONDS = 15.0
"""Without a terminal: how often a long task says that it is still there."""

HOSTS_SHOWN = 8
"""More hosts at once than this do not fit on a screen."""


class Progress:
    """Shows the running task and how long it has taken; listens to a playbook's events."""

    def __init__(self, console: Console) -> None:
        """Write to ``console`` (stderr)."""
        self._console = console
        self._task = "Starting"
        # Replaced, never changed: the thread that shows it may be reading.
        self._details: Mapping[str, str] = {}
        self._since = time.monotonic()
        self._said = 0.0
        self._stop = threading.Event()
        self._status: Status | None = None
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        """Start to show."""
        if self._console.is_terminal:
            self._status = self._console.status(self._task)
            self._status.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and leave the terminal clean."""
        self._stop.set()
        self._thread.join()
        self._finish()
        if self._status is not None:
            self._status.stop()

    def __call__(self, event: Event) -> None:
        """Take one event of the playbook."""
        data = event.get("event_data") or {}
        if event["event"] == "playbook_on_task_start":
            self._finish()
            self._task, self._details = str(data.get("task", "")), {}
            self._since = time.monotonic()
            self._said = 0.0
        if event["event"] == "runner_retry":
            told = _detail(data["host"], data.get("res") or {})
            self._details = {**self._details, data["host"]: told}
        if event["event"] in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable"):
            self._details = {h: d for h, d in self._details.items() if h != data.get("host")}

    def tell(self) -> None:
        """Show how things stand, if it is time to."""
        seconds = time.monotonic() - self._since
        line = f"{self._task} ({seconds:.0f} s)"
        details = _shown(self._details)
        if self._status is not None:
            self._status.update(Text("\n  ".join([line, *details])))
            return
        if seconds < QUIET_SECONDS:
            return
        if not self._said:
            line = self._task
        elif seconds - self._said < REPEAT_SECONDS:
            return
        self._said = seconds
        told = f"{line}: {'; '.join(details)}" if details else line
        self._console.print(f"… {told}", markup=False, highlight=False, soft_wrap=True)

    def _tick(self) -> None:
        """Refresh until stopped."""
        while not self._stop.wait(0.25):
            self.tell()

    def _finish(self) -> None:
        """Say how long a task took, if it was long."""
        seconds = time.monotonic() - self._since
        if seconds >= QUIET_SECONDS:
            text = f"✓ {self._task}: {seconds:.0f} s"
            self._console.print(text, markup=False, highlight=False, style="dim")


def _detail(host: str, result: Mapping[str, Any]) -> str:
    """Return what a task that is tried again tells of its host: what is still to come."""
    if "progress" in result:
        return f"{host}: {result['progress']}"
    raw = result.get("raw") or {}
    if "docker" in raw:
        found = container_facts(raw)
        return "; ".join(waiting([container.id for container in found], found).waiting)
    if "action" not in raw:
        return ""
    line = transfers(raw).line
    # Only the controller pushes, whichever host the task is counted for.
    return f"{'controller' if raw['action'] == 'push' else host}: {line}" if line else ""


def _shown(details: Mapping[str, str]) -> list[str]:
    """Return what there is to tell, of a large fleet only the first hosts."""
    told = [detail for _, detail in sorted(details.items()) if detail]
    rest = len(told) - HOSTS_SHOWN
    return [*told[:HOSTS_SHOWN], f"and {rest} more"] if rest > 0 else told
