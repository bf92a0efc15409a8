"""Wrong words to `lab`, and a machine without Docker: one clear line, the right exit code."""

from __future__ import annotations

import json
import sys

import pytest

from tests.commands import command

LAB = (sys.executable, "-m", "pdinfra", "lab")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "--hosts", "0"), "1 to 32"),
        (("up", "--hosts", "33"), "1 to 32"),
        (("up", "--name", "My_Lab"), "My_Lab"),
        (("down", "--keep-images", "--purge"), "--purge"),
        (("fault", "off"), "--all"),
        (("fault", "off", "node1"), "--all"),
    ],
)
def test_wrong_use_is_refused_with_2(words: tuple[str, ...], said: str) -> None:
    result = command(*LAB, *words)
    assert result.code == 2, result.text
    assert said in result.err
    assert "Fix:" in result.err
    assert len(result.err.strip().splitlines()) == 1


@pytest.mark.parametrize("verb", ["up", "status", "down"])
def test_no_docker_engine_is_one_line(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    result = command(*LAB, verb, "--name", "never-up", "--json")
    assert result.code == 1, result.text
    (line,) = json.loads(result.out)["errors"]
    assert "no engine answers" in line
    assert "Fix:" in line
    assert "Traceback" not in result.err
