"""What people are told of a long task."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pdinfra.driver import progress
from pdinfra.driver.progress import Progress


def state(current: int, action: str = "pull") -> dict[str, Any]:
    layer = {"status": "Downloading", "current": current * 10**6, "total": 2270 * 10**6}
    image = {"ref": "v:1", "remote": "quay.io/a/v:1", "layers": {"1": layer}}
    images = [{**image, "done": False, "error": None}]
    return {"raw": {"action": action, "done": False, "images": images}}


def retry(host: str, result: dict[str, Any]) -> dict[str, Any]:
    return {"event": "runner_retry", "event_data": {"host": host, "res": result}}


def ended(host: str) -> dict[str, Any]:
    return {"event": "runner_on_ok", "event_data": {"host": host, "res": {}}}


TASK = {"event": "playbook_on_task_start", "event_data": {"task": "Pull the images"}}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> tuple[Progress, io.StringIO]:
    """A display without a terminal that finds every task long."""
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "REPEAT_SECONDS", 0.0)
    text = io.StringIO()
    return Progress(Console(file=text, width=400)), text


def told(shown: tuple[Progress, io.StringIO], *events: dict[str, Any]) -> str:
    """Return the lines of one look after some events."""
    show, text = shown
    for event in (TASK, *events):
        show(event)
    text.truncate(0)
    show.tell()
    return text.getvalue()


def test_every_host_tells_how_far_it_is(shown: tuple[Progress, io.StringIO]) -> None:
    line = told(shown, retry("node2", state(812)), retry("node1", state(3)))
    assert "Pull the images" in line
    first = line.index("node1: v:1: 3 of 2270 MB")
    assert first < line.index("node2: v:1: 812 of 2270 MB")


def test_a_delivery_tells_in_its_own_words(shown: tuple[Progress, io.StringIO]) -> None:
    line = told(shown, retry("a", {"progress": "1.0 of 15.2 GiB"}))
    assert "a: 1.0 of 15.2 GiB" in line


def test_the_latest_word_of_a_host_counts(shown: tuple[Progress, io.StringIO]) -> None:
    line = told(shown, retry("node1", state(3)), retry("node1", state(4)))
    assert "4 of 2270" in line
    assert " 3 of 2270" not in line


def test_host_that_is_through_is_not_told_any_more(shown: tuple[Progress, io.StringIO]) -> None:
    line = told(shown, retry("node1", state(3)), retry("node2", state(4)), ended("node1"))
    assert "node1" not in line
    assert "node2" in line


def test_next_task_starts_without_the_old_words(shown: tuple[Progress, io.StringIO]) -> None:
    assert "node1" not in told(shown, retry("node1", state(3)), TASK)


def test_push_is_the_controllers(shown: tuple[Progress, io.StringIO]) -> None:
    line = told(shown, retry("node1", state(3, "push")))
    assert "controller: v:1: 3 of" in line
    assert "node1" not in line


def test_large_fleet_is_cut_short(shown: tuple[Progress, io.StringIO]) -> None:
    line = told(shown, *(retry(f"n{i:03}", state(1)) for i in range(200)))
    assert line.count("MB") == progress.HOSTS_SHOWN
    assert f"and {200 - progress.HOSTS_SHOWN} more" in line


@pytest.mark.parametrize("result", [{}, {"raw": {}}, {"msg": "not yet"}])
def test_retry_that_says_nothing_is_no_news(
    shown: tuple[Progress, io.StringIO], result: dict[str, Any]
) -> None:
    assert "node1" not in told(shown, retry("node1", result))
