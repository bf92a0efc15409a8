"""Ansible's events → what a person must know of a run."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ansible_runner
import pytest

from pdinfra.driver.run import Failure, Run, run_playbook


def run(*events: tuple[str, dict[str, Any]], **more: Any) -> Run:
    found = Run(**more)
    for kind, data in events:
        found.take({"event": kind, "event_data": data})
    return found


def failed(res: dict[str, Any], **more: Any) -> tuple[str, dict[str, Any]]:
    return "runner_on_failed", {"host": "a", "task": "Pull the image", "res": res, **more}


def test_failed_task_keeps_host_task_and_message() -> None:
    found = run(failed({"msg": "no such image"}))
    assert found.failures == [Failure("a", "Pull the image", "no such image")]


def test_message_has_what_the_command_said_on_stderr() -> None:
    found = run(failed({"msg": "non-zero return code", "stderr": "E: no space left\n"}))
    assert found.failures[0].message == "non-zero return code\nE: no space left"


def test_failed_loop_tells_the_items_that_failed_once_each() -> None:
    items = [
        {"failed": True, "msg": "no space"},
        {"failed": False, "msg": "fine"},
        {"failed": True, "msg": "no space"},
    ]
    found = run(failed({"msg": "One or more items failed", "results": items}))
    assert found.failures[0].message == "no space"


@pytest.mark.parametrize("res", [{}, {"msg": ""}, {"msg": None}])
def test_failure_without_a_word_says_so(res: dict[str, Any]) -> None:
    assert run(failed(res)).failures[0].message == "failed without a message"


def test_ignored_failure_is_none() -> None:
    assert run(failed({"msg": "x"}, ignore_errors=True)).failures == []


def test_unreachable_host_is_a_failure() -> None:
    res = {"msg": "Permission denied (publickey)\n"}
    found = run(("runner_on_unreachable", {"host": "b", "res": res}))
    assert found.failures == [Failure("b", "unreachable", "Permission denied (publickey)")]


@pytest.mark.parametrize("kind", ["runner_on_ok", "runner_on_failed"])
def test_results_of_pdinfras_own_actions_are_kept_failed_or_not(kind: str) -> None:
    data = {"host": "a", "task": "Plan", "task_action": "pdinfra_plan", "res": {"plan": {}}}
    assert run((kind, data)).results == {"pdinfra_plan": {"plan": {}}}


def test_start_of_a_task_leaves_no_result_of_its_own_once_it_is_done() -> None:
    started = ("runner_on_start", {"host": "a", "task_action": "pdinfra_changes"})
    done = ("runner_on_ok", {"host": "a", "task_action": "pdinfra_changes", "res": {"work": {}}})
    assert run(started, done).results["pdinfra_changes"] == {"work": {}}


def test_results_of_other_actions_are_not_kept() -> None:
    assert run(("runner_on_ok", {"task_action": "copy", "res": {"x": 1}})).results == {}


def test_words_outside_of_tasks_are_kept_for_when_nothing_else_explains_a_failure() -> None:
    found = Run()
    found.take({"event": "error", "stdout": "ERROR! no hosts\nmore"})
    found.take({"event": "playbook_on_stats", "stdout": "PLAY RECAP"})
    assert found.output == ["ERROR! no hosts", "more"]


def test_event_without_data_is_no_crash() -> None:
    found = Run()
    found.take({"event": "playbook_on_start"})
    assert found == Run()


def test_a_run_gives_ctrl_c_back_to_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def runner(**options: Any) -> SimpleNamespace:
        signal.signal(signal.SIGINT, lambda *_: None)
        return SimpleNamespace(rc=0, status="successful")

    monkeypatch.setattr(ansible_runner, "run", runner)
    before = signal.getsignal(signal.SIGINT)
    assert run_playbook("site.yml", tmp_path).rc == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_ctrl_c_ended_is_no_failure_of_a_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended = SimpleNamespace(rc=254, status="canceled")
    monkeypatch.setattr(ansible_runner, "run", lambda **options: ended)
    with pytest.raises(KeyboardInterrupt):
        run_playbook("site.yml", tmp_path)
