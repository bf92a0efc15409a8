"""Run one playbook through ansible-runner and keep what matters of its events."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner

from pdinfra.assets import ROOT

Event = Mapping[str, Any]
OWN_ACTIONS = ("pdinfra_plan", "pdinfra_changes", "pdinfra_doctor", "pdinfra_verify")


@dataclass(frozen=True)
class Failure:
    """One task that failed on one host, as Ansible told it."""

    host: str
    task: str
    message: str
    action: str = ""


@dataclass
class Run:
    """A playbook's outcome: Ansible's return code, failures, results of pdinfra's actions.

    An action that ran again adds to what it said before. ``observed`` is what the facts module
    brought last of each host.
    """

    rc: int = 0
    failures: list[Failure] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    observed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Keep what one event says."""
        kind = event["event"]
        data = event.get("event_data") or {}
        result = data.get("res") or {}
        if kind in ("verbose", "error", "warning", "deprecated"):
            self.output += str(event.get("stdout", "")).splitlines()
        if data.get("task_action") in OWN_ACTIONS and kind.startswith("runner_on_"):
            self.results[data["task_action"]] = {
                **self.results.get(data["task_action"], {}),
                **result,
            }
        if data.get("task_action") == "pd_facts" and "raw" in result:
            self.observed[data["host"]] = result["raw"]
        if kind == "runner_on_unreachable":
            message = str(result.get("msg", "")).strip()
            self.failures.append(Failure(data["host"], "unreachable", message))
        if kind == "runner_on_failed" and not data.get("ignore_errors"):
            action = str(data.get("task_action", ""))
            task = data.get("task", "")
            self.failures.append(Failure(data["host"], task, _message(result), action))


def run_playbook(
    playbook: str,
    inventory: Path,
    *,
    limit: str | None = None,
    listen: Callable[[Event], None] = lambda event: None,
    variables: Mapping[str, Any] | None = None,
) -> Run:
    """Run a playbook of this repository; ``listen`` is told every event as it happens.

    variables: Ansible's extra variables. Raises KeyboardInterrupt when the run was stopped by
    Ctrl-C; nothing of it is running any more then.
    """
    run = Run()

    def on_event(event: dict[str, Any]) -> bool:
        run.take(event)
        listen(event)
        return False

    with tempfile.TemporaryDirectory(prefix="pdinfra-") as scratch, _own_signals():
        outcome = ansible_runner.run(
            private_data_dir=scratch,
            project_dir=str(ROOT),
            playbook=playbook,
            inventory=str(inventory.resolve()),
            limit=limit,
            envvars=environment(),
            extravars=dict(variables or {}),
            event_handler=on_event,
            quiet=True,
        )
        run.rc = outcome.rc
    if outcome.status == "canceled":
        raise KeyboardInterrupt
    return run


@contextmanager
def _own_signals() -> Iterator[None]:
    """Give signals back to this process afterwards: ansible-runner keeps them, and hears none."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


RESULT_CHARACTERS = 32 << 20
"""ansible-runner empties larger results: then a healthy host looks like one that was not asked."""


def environment() -> dict[str, str]:
    """Return what Ansible needs to find this repository and the tools beside this Python."""
    tools = str(Path(sys.executable).parent)
    return {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "MAX_EVENT_RES": str(RESULT_CHARACTERS),
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def _message(result: Mapping[str, Any]) -> str:
    """Return the most telling line of a failed result (of the failed items, if it was a loop)."""
    items = [_message(item) for item in result.get("results") or [] if item.get("failed")]
    if items:
        return "; ".join(dict.fromkeys(items))
    parts = [str(result.get(key) or "").strip() for key in ("msg", "stderr")]
    return "\n".join(dict.fromkeys(filter(None, parts))) or "failed without a message"
