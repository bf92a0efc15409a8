"""What is happening, for people: a spinner on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from pdinfra.driver.run import Event
from pdinfra.planning.waiting import waiting
from pdinfra.reading.host import container_facts

QUIET_SECONDS = 2.0
"""A task shorter than this is nobody's business."""
REPEAT_SECONDS = 15.0
"""Without a terminal: how often a long task says that it is still there."""


class Progress:
    """Shows the running task and how long it has taken; listens to a playbook's events."""

    def __init__(self, console: Console) -> None:
        """Write to ``console`` (stderr)."""
        self._console = console
        self._task = "Starting"
        self._detail = ""
        self._hosts: dict[str, str] = {}
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
            self._task, self._detail = str(data.get("task", "")), ""
            self._hosts.clear()
            self._since = time.monotonic()
            self._said = 0.0
        if event["event"] == "runner_retry" and "raw" in (data.get("res") or {}):
            found = container_facts(data["res"]["raw"])
            told = waiting([container.id for container in found], found)
            self._detail = "; ".join(told.waiting)
        if event["event"] == "runner_retry" and "progress" in (data.get("res") or {}):
            self._hosts[str(data.get("host"))] = str(data["res"]["progress"])
            self._detail = "; ".join(f"{host}: {far}" for host, far in self._hosts.items())

    @property
    def line(self) -> str:
        """The task, the seconds that it has taken, and how far it is if that is known."""
        text = f"{self._task} ({time.monotonic() - self._since:.0f} s)"
        return f"{text}: {self._detail}" if self._detail else text

    def _tick(self) -> None:
        """Refresh until stopped."""
        while not self._stop.wait(0.25):
            seconds = time.monotonic() - self._since
            line = self.line
            if self._status is not None:
                self._status.update(line)
            elif seconds >= QUIET_SECONDS and seconds - self._said >= REPEAT_SECONDS:
                self._said = seconds
                self._console.print(f"… {line}", markup=False, highlight=False)
            elif seconds >= QUIET_SECONDS and not self._said:
                self._said = seconds
                self._console.print(f"… {self._task}", markup=False, highlight=False)

    def _finish(self) -> None:
        """Say how long a task took, if it was long."""
        seconds = time.monotonic() - self._since
        if seconds >= QUIET_SECONDS:
            text = f"✓ {self._task}: {seconds:.0f} s"
            self._console.print(text, markup=False, highlight=False, style="dim")
