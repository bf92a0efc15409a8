"""What keeps an application on Ray Serve, against a FAKE of Serve's REST API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pdinfra_ray.__main__ import AGAIN_SECONDS, LOOK_SECONDS, keep
from pdinfra_ray.serve import Serve
from tests.commands import ROOT, wait_until
from tests.router.ray.fake_serve import FakeServe, serving

WANTED: dict[str, Any] = {
    "applications": [
        {
            "name": "pd",
            "route_prefix": "/",
            "import_path": "ray.serve.llm:build_openai_app",
            "args": {"llm_configs": [{"engine_kwargs": {"max_model_len": 4096}}]},
            "deployments": [{"name": "LLMServer:engine", "num_replicas": 3}],
        }
    ],
    "proxy_location": "HeadOnly",
    "http_options": {"host": "192.0.2.1", "port": 8000},
}
NOBODY = "http://127.0.0.1:9"
"""The port of nothing."""
Then = Callable[[], None]


class Rounds(threading.Event):
    """As many rounds as there are things to happen, one before each but the first, no pause."""

    def __init__(self, *then: Then) -> None:
        super().__init__()
        self.then = [nothing, *then]
        self.paused: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        if not self.then:
            return True
        self.paused.append(timeout)
        self.then.pop(0)()
        return False


def nothing() -> None:
    """Let the keeper look again."""


@pytest.fixture
def fake() -> Iterator[FakeServe]:
    with serving(FakeServe()) as server:
        yield server


def kept(fake: FakeServe, *then: Then, wanted: dict[str, Any] = WANTED, url: str = "") -> Rounds:
    """Keep the application for some rounds; then: what happens before each but the first."""
    rounds = Rounds(*then)
    keep(Serve(url or fake.url), wanted, rounds)
    return rounds


def moved() -> dict[str, Any]:
    """Return the same application at another entry."""
    return {**WANTED, "http_options": {"host": "192.0.2.1", "port": 8001}}


def test_it_is_deployed_once_and_left_alone_when_it_is_as_wanted(
    fake: FakeServe, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(fake, nothing, nothing, nothing)
    assert fake.config == WANTED
    assert fake.asked == ["GET", "PUT", "GET", "GET", "GET"]
    assert capsys.readouterr().out.splitlines() == ["deployed", "all deployments answer"]


def test_a_keeper_that_starts_again_changes_nothing(fake: FakeServe) -> None:
    kept(fake)
    kept(fake, nothing)
    assert fake.deployed() == 1


def test_a_cluster_that_forgot_it_is_told_again(fake: FakeServe) -> None:
    kept(fake, fake.forget, nothing)
    assert fake.deployed() == 2
    assert fake.config == WANTED


def test_another_number_of_replicas_is_told_without_taking_anything_away(fake: FakeServe) -> None:
    kept(fake)
    more = json.loads(json.dumps(WANTED))
    more["applications"][0]["deployments"][0]["num_replicas"] = 4
    kept(fake, nothing, wanted=more)
    assert fake.config == more
    assert "DELETE" not in fake.asked


def test_an_entry_moves_by_taking_everything_away_first(
    fake: FakeServe, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(fake)
    kept(fake, nothing, nothing, wanted=moved())
    assert [word for word in fake.asked if word != "GET"] == ["PUT", "DELETE", "PUT"]
    assert fake.entry == {"host": "192.0.2.1", "port": 8001}
    assert "the entry moves" in capsys.readouterr().out


def test_what_failed_is_tried_again_after_a_long_pause(
    fake: FakeServe, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.status, fake.message = "DEPLOY_FAILED", "No module named 'vllm'"
    rounds = kept(fake, nothing, nothing, nothing)
    assert rounds.paused == [0.0, LOOK_SECONDS, AGAIN_SECONDS, AGAIN_SECONDS]
    assert fake.deployed() == 4
    words = capsys.readouterr().out.splitlines()
    assert words == ["deployed", "pd failed: No module named 'vllm'; deployed again"]


def test_what_failed_once_and_comes_up_then_is_kept(fake: FakeServe) -> None:
    def well() -> None:
        fake.status = "RUNNING"

    fake.status = "DEPLOY_FAILED"
    rounds = kept(fake, nothing, well, nothing)
    assert fake.deployed() == 2
    assert rounds.paused[-1] == LOOK_SECONDS


def test_an_application_that_is_being_deployed_or_heals_is_left_alone(
    fake: FakeServe, capsys: pytest.CaptureFixture[str]
) -> None:
    def heals() -> None:
        fake.status, fake.message = "UNHEALTHY", "The deployments ['x'] are UNHEALTHY."

    fake.status, fake.states = "DEPLOYING", ("RUNNING", "STARTING", "STARTING")
    kept(fake, nothing, heals, nothing)
    assert fake.deployed() == 1
    assert "pd is DEPLOYING: LLMServer:engine 1/3" in capsys.readouterr().out


def test_a_refusal_is_told_with_its_last_line_and_tried_again(
    fake: FakeServe, capsys: pytest.CaptureFixture[str]
) -> None:
    def well() -> None:
        fake.refuses = ""

    fake.refuses = "Traceback (most recent call last):\n  File x\nValueError: no such builder\n"
    rounds = kept(fake, nothing, well, nothing)
    assert rounds.paused == [0.0, LOOK_SECONDS, LOOK_SECONDS, LOOK_SECONDS]
    assert fake.config == WANTED
    first, *others = capsys.readouterr().out.splitlines()
    assert first.endswith(": 500 ValueError: no such builder")
    assert others == ["deployed", "all deployments answer"], "the same is told once"


def test_a_dashboard_that_is_down_is_waited_for(
    fake: FakeServe, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = Rounds(nothing, lambda: setattr(serve, "url", Serve(fake.url).url), nothing)
    serve = Serve(NOBODY)
    keep(serve, WANTED, rounds)
    assert fake.config == WANTED
    words = capsys.readouterr().out.splitlines()
    assert words[0].startswith(f"GET {NOBODY}/api/serve/applications/: ")
    assert words[1:] == ["deployed", "all deployments answer"]
    assert set(rounds.paused[1:]) == {LOOK_SECONDS}


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b"3", b"\xff"])
def test_an_answer_that_is_no_document_changes_nothing(fake: FakeServe, raw: bytes) -> None:
    fake.raw = raw
    kept(fake, nothing)
    assert fake.deployed() == 0


def test_an_answer_that_ends_early_is_a_dashboard_that_is_down(
    fake: FakeServe, capsys: pytest.CaptureFixture[str]
) -> None:
    def whole() -> None:
        fake.cut = False

    fake.cut = True
    kept(fake, whole)
    assert fake.config == WANTED
    assert "IncompleteRead" in capsys.readouterr().out.splitlines()[0]


def process(*words: str) -> subprocess.Popen[str]:
    """Start the program as its container does."""
    path = str(ROOT / "images" / "vllm-router")
    return subprocess.Popen(
        [sys.executable, "-m", "pdinfra_ray", *words],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_program_ends_when_it_is_told_and_leaves_the_application(fake: FakeServe) -> None:
    keeper = process("--dashboard", fake.url, "--application", json.dumps(WANTED))
    try:
        wait_until("the application is deployed", 30, lambda: fake.deployed() == 1)
        assert keeper.poll() is None
        keeper.send_signal(signal.SIGTERM)
        out, _ = keeper.communicate(timeout=30)
    finally:
        keeper.kill()
    assert keeper.returncode == 0, out
    assert fake.config == WANTED
    assert "DELETE" not in fake.asked


def ready(url: str) -> tuple[int, str]:
    """Return the exit code and the words of the probe."""
    probe = process("--dashboard", url, "--ready")
    out, _ = probe.communicate(timeout=30)
    return probe.returncode, out.strip()


@pytest.mark.parametrize(
    ("status", "message", "states", "code", "word"),
    [
        ("RUNNING", "", ("RUNNING",), 0, "ready"),
        ("UNHEALTHY", "one is away", ("RUNNING", "STARTING"), 0, "ready"),
        ("UNHEALTHY", "all are away", ("STARTING",), 1, "no replica of LLMServer:engine runs"),
        ("DEPLOYING", "", ("RUNNING", "STARTING"), 1, "pd is DEPLOYING: LLMServer:engine 1/3"),
        ("DEPLOY_FAILED", "No module", (), 1, "pd is DEPLOY_FAILED: No module"),
    ],
)
def test_the_probe_says_whether_requests_can_be_answered(
    fake: FakeServe, status: str, message: str, states: tuple[str, ...], code: int, word: str
) -> None:
    fake.deploy(WANTED)
    fake.status, fake.message, fake.states = status, message, states
    assert ready(fake.url) == (code, word)
    assert fake.asked == ["GET"], "it only looks"


def test_the_probe_of_a_cluster_without_the_application_fails(fake: FakeServe) -> None:
    assert ready(fake.url) == (1, "there is no application")


def test_the_probe_of_a_dashboard_that_does_not_answer_fails() -> None:
    code, word = ready(NOBODY)
    assert code == 1
    assert word.startswith(f"GET {NOBODY}/api/serve/applications/: ")
