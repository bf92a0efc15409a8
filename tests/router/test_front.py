"""Members come and go behind the front, before vllm-router; routers and engines are fakes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.commands import wait_until
from tests.router.running import ASKED, DUMB, SICK, Running, free_ports, running


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, "--sick-seconds", "1", "--stall-seconds", "1") as service:
        yield service


def port(member: tuple[str, str, str]) -> int:
    return int(member[2].rsplit(":", 1)[1])


class Slow:
    """A stream that runs until it is asked for."""

    def __init__(self, front: Running) -> None:
        self.text = ""
        self._front = front
        self._enough = front.file.with_name("enough")
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        wait_until("the stream runs", 5, lambda: front.state()["in_flight"] == 1)

    def _read(self) -> None:
        self.text = self._front.ask(f"until {self._enough}").text

    def whole(self, *members: tuple[str, str, str]) -> bool:
        self._enough.touch()
        self._thread.join()
        names = "+".join(member[2] for member in members)
        ended = self.text.endswith("data: [DONE]\n\n")
        return ended and names in self.text


def test_is_live_and_says_503_while_no_pair_answers(front: Running) -> None:
    assert httpx.get(f"{front.url}/liveness").status_code == 200
    assert httpx.get(f"{front.url}/health").status_code == 503
    refused = front.ask("x")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert "pair" in refused.json()["error"]["message"]


def test_members_join_and_leave_without_a_lost_request(front: Running) -> None:
    p0, d0 = front.pair()
    d1 = ("d1", "decode", front.engine())
    stop = threading.Event()
    failed: list[str] = []
    answered: set[str] = set()

    def load() -> None:
        while not stop.is_set():
            answer = front.ask("x")
            (answered.add if answer.status_code == 200 else failed.append)(answer.text)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    front.write(p0, d0, d1)
    front.wait_for("p0", "d0", "d1")
    front.write(p0, d1)
    front.wait_for("p0", "d1")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert any(d0[2] in text and d1[2] in text for text in answered)


def test_a_member_that_leaves_ends_its_stream_first(front: Running) -> None:
    p0, d0 = front.pair()
    stream = Slow(front)
    front.write(p0, ("d1", "decode", front.engine()))
    front.wait_for("p0", "d1")
    assert front.state()["draining"] is True
    assert stream.whole(p0, d0)
    wait_until("drained", 5, lambda: front.state()["draining"] is False)


def test_a_member_is_given_to_the_router_only_after_a_completion_through_its_pair(
    front: Running,
) -> None:
    p0, d0 = front.pair()
    assert ASKED[port(d0)] >= 1
    d1 = ("d1", "decode", front.engine())
    DUMB.add(port(d1))
    front.write(p0, d0, d1)
    wait_until("d1 is asked for a token", 5, lambda: ASKED.get(port(d1), 0) >= 1)
    assert front.active() == ["p0", "d0"]


def test_a_sick_member_leaves_by_a_handover_and_comes_back_by_one(front: Running) -> None:
    p0, d0 = front.pair()
    d1 = ("d1", "decode", front.engine())
    front.write(p0, d0, d1)
    front.wait_for("p0", "d0", "d1")
    wait_until("nothing drains", 5, lambda: front.state()["draining"] is False)
    stream = Slow(front)
    SICK.add(port(d1))
    front.wait_for("p0", "d0")
    left = time.monotonic()
    SICK.discard(port(d1))
    assert stream.whole(p0, d0, d1)
    front.wait_for("p0", "d0", "d1")
    assert time.monotonic() - left >= 0.9


def test_the_last_of_a_role_stays_when_it_falls_sick(front: Running) -> None:
    _, d0 = front.pair()
    SICK.add(port(d0))
    wait_until("d0 is seen to be sick", 5, lambda: "d0" in front.state()["error"])
    assert front.active() == ["p0", "d0"]


def test_a_member_that_answers_health_and_does_nothing_leaves(front: Running) -> None:
    p0, d0 = front.pair()
    d1 = ("d1", "decode", front.engine())
    front.write(p0, d0, d1)
    front.wait_for("p0", "d0", "d1")
    DUMB.add(port(d1))
    front.wait_for("p0", "d0")
    assert front.ask("x").status_code == 200


def test_a_member_that_does_not_answer_keeps_nobody_out_and_joins_when_it_does(
    front: Running,
) -> None:
    p0, d0 = front.pair()
    (late,) = free_ports(1)
    front.write(p0, d0, ("d1", "decode", f"http://127.0.0.1:{late}"))
    wait_until("d1 is named", 5, lambda: "d1" in front.state()["error"])
    assert front.active() == ["p0", "d0"]
    assert front.ask("x").status_code == 200
    front.engine(late)
    front.wait_for("p0", "d0", "d1")
    assert front.state()["error"] == ""


def test_a_broken_file_changes_nothing(front: Running) -> None:
    front.pair()
    for text in ("{", "[]", '{"members": [{"id": "x"}]}'):
        front.file.write_text(text)
        wait_until("the fault is told", 5, lambda: "stay as they are" in front.state()["error"])
        assert front.active() == ["p0", "d0"]
    assert front.ask("x").status_code == 200


def test_the_last_of_a_role_stays_when_it_is_taken_out_of_the_file(front: Running) -> None:
    p0, _ = front.pair()
    front.write(p0)
    wait_until("the file was read", 5, lambda: len(front.state()["wanted"]) == 1)
    assert front.active() == ["p0", "d0"]


def test_mixed_members_need_no_pair_and_score_prompts(front: Running) -> None:
    front.write(("m0", "mixed", front.engine()))
    front.wait_for("m0")
    assert front.ask("x", echo=True, logprobs=1).status_code == 200


def test_a_dead_router_ends_the_front_so_that_docker_starts_it_anew(front: Running) -> None:
    front.pair()
    (child,) = [p for p in Path("/proc").glob("[0-9]*") if _child(p, front.process.pid)]
    os.kill(int(child.name), signal.SIGKILL)
    assert front.process.wait(10) == 1


def _child(folder: Path, parent: int) -> bool:
    try:
        return f"PPid:\t{parent}\n" in (folder / "status").read_text()
    except OSError:
        return False


def test_a_stop_waits_for_the_running_stream(front: Running) -> None:
    p0, d0 = front.pair()
    stream = Slow(front)
    front.process.send_signal(signal.SIGTERM)
    assert stream.whole(p0, d0)
    assert front.process.wait(20) == 0
