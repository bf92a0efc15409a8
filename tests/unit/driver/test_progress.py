"""Long deliveries show how far each host is."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from pdinfra.driver.progress import Progress


def retry(host: str, far: str) -> dict[str, Any]:
    """Return the event of a task that is tried again."""
    return {"event": "runner_retry", "event_data": {"host": host, "res": {"progress": far}}}


def test_every_hosts_last_word_is_shown_until_the_next_task() -> None:
    progress = Progress(Console(file=io.StringIO()))
    progress({"event": "playbook_on_task_start", "event_data": {"task": "Download"}})
    progress(retry("a", "1.0 of 15.2 GiB"))
    progress(retry("b", "0.5 of 15.2 GiB"))
    progress(retry("a", "2.0 of 15.2 GiB"))
    assert progress.line.endswith(" s): a: 2.0 of 15.2 GiB; b: 0.5 of 15.2 GiB")
    progress({"event": "playbook_on_task_start", "event_data": {"task": "Next"}})
    assert progress.line == "Next (0 s)"
