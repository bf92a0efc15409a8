"""The front before vllm-router, as a process of its own; routers and engines are fakes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import ROOT, wait_until

FAKE = Path(__file__).with_name("fake_router.py")
STREAM = " ".join(map(str, range(20)))


class Engine(BaseHTTPRequestHandler):
    """FAKE engine: /health answers 200, that is all."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@dataclass
class Service:
    """A running front with what a test needs to drive it."""

    process: subprocess.Popen[bytes]
    url: str
    metrics: str
    file: Path
    stack: ExitStack

    def write(self, *members: tuple[str, str, str]) -> None:
        rows = [{"id": name, "role": role, "url": url} for name, role, url in members]
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"members": rows}))
        new.replace(self.file)

    def engine(self, port: int = 0) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", port), Engine)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.stack.callback(server.server_close)
        self.stack.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/pdinfra/members").json()
        return found

    def active(self) -> list[str]:
        return [member["id"] for member in self.state()["active"]]

    def wait_for(self, *names: str) -> None:
        wait_until(f"members are {names}", 20, lambda: self.active() == list(names))

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Service]:
    port, metrics = free_ports(2)
    internal = next(p for p in range(21000, 29000, 8) if _free(p, p + 1, p + 2, p + 3))
    file = tmp_path / "members.json"
    words = [
        *("--host", "127.0.0.1", "--port", str(port), "--metrics-port", str(metrics)),
        *("--internal-port", str(internal), "--members", str(file), "--drain-seconds", "20"),
        *("--look-seconds", "0.1"),
        *("--", sys.executable, str(FAKE)),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "pdinfra_router", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "images" / "vllm-router")},
    )
    with ExitStack() as stack:
        service = Service(
            process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics}", file, stack
        )
        wait_until("the front listens", 20, lambda: not _free(port))
        yield service
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _free(*ports: int) -> bool:
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return True


def pair(front: Service) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    members = ("p0", "prefill", front.engine()), ("d0", "decode", front.engine())
    front.write(*members)
    front.wait_for("p0", "d0")
    return members


def test_is_live_and_says_503_while_no_pair_answers(front: Service) -> None:
    assert front.get("/liveness").status_code == 200
    refused = front.get("/v1/models")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert "pair" in refused.json()["error"]["message"]


def test_requests_reach_the_router_with_method_query_and_body(front: Service) -> None:
    p0, d0 = pair(front)
    answer = httpx.post(f"{front.url}/v1/x?a=b%2Fc", content="你好")
    assert answer.text == f"POST /v1/x?a=b%2Fc {p0[2]}+{d0[2]} 你好"
    assert httpx.get(f"{front.metrics}/metrics").text.startswith("GET /metrics")


def test_members_join_and_leave_without_a_lost_request(front: Service) -> None:
    p0, d0 = pair(front)
    d1 = ("d1", "decode", front.engine())
    stop = threading.Event()
    failed: list[str] = []
    answered: set[str] = set()

    def load() -> None:
        while not stop.is_set():
            answer = front.get("/v1/x")
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


def test_a_member_that_leaves_ends_its_stream_first(front: Service) -> None:
    p0, d0 = pair(front)
    d1 = ("d1", "decode", front.engine())
    texts: list[str] = []
    stream = threading.Thread(target=lambda: texts.append(front.get("/slow").text))
    stream.start()
    wait_until("the stream runs", 5, lambda: front.state()["in_flight"] == 1)
    front.write(p0, d1)
    front.wait_for("p0", "d1")
    assert front.state()["draining"] is True
    stream.join()
    wait_until("drained", 5, lambda: front.state()["draining"] is False)
    assert texts == [f"{STREAM} {p0[2]}+{d0[2]}"]


def test_a_member_that_does_not_answer_keeps_nobody_out_and_joins_when_it_does(
    front: Service,
) -> None:
    p0, d0 = pair(front)
    (late,) = free_ports(1)
    front.write(p0, d0, ("d1", "decode", f"http://127.0.0.1:{late}"))
    wait_until("d1 is named", 5, lambda: "d1" in front.state()["error"])
    assert front.active() == ["p0", "d0"]
    assert front.get("/v1/x").status_code == 200
    front.engine(late)
    front.wait_for("p0", "d0", "d1")
    assert front.state()["error"] == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"members": [{"id": "x"}]}'])
def test_a_broken_file_changes_nothing(front: Service, text: str) -> None:
    pair(front)
    front.file.write_text(text)
    wait_until("the fault is told", 5, lambda: "stay as they are" in front.state()["error"])
    assert front.active() == ["p0", "d0"]
    assert front.get("/v1/x").status_code == 200


def test_the_last_of_a_role_stays(front: Service) -> None:
    p0, _ = pair(front)
    front.write(p0)
    wait_until("the file was read", 5, lambda: len(front.state()["wanted"]) == 1)
    assert front.active() == ["p0", "d0"]


def test_mixed_members_need_no_pair(front: Service) -> None:
    front.write(("m0", "mixed", front.engine()))
    front.wait_for("m0")
    assert front.get("/v1/x").status_code == 200


def test_an_answer_that_breaks_off_does_not_look_complete(front: Service) -> None:
    pair(front)
    with pytest.raises(httpx.RemoteProtocolError):
        front.get("/break")
    assert front.get("/v1/x").status_code == 200


def test_a_dead_router_ends_the_front_so_that_docker_starts_it_anew(front: Service) -> None:
    pair(front)
    (child,) = [p for p in Path("/proc").glob("[0-9]*") if _child(p, front.process.pid)]
    os.kill(int(child.name), signal.SIGKILL)
    assert front.process.wait(10) == 1


def _child(folder: Path, parent: int) -> bool:
    try:
        return f"PPid:\t{parent}\n" in (folder / "status").read_text()
    except OSError:
        return False


def test_a_stop_waits_for_the_running_stream(front: Service) -> None:
    pair(front)
    texts: list[str] = []
    stream = threading.Thread(target=lambda: texts.append(front.get("/slow").text))
    stream.start()
    wait_until("the stream runs", 5, lambda: front.state()["in_flight"] == 1)
    front.process.send_signal(signal.SIGTERM)
    assert front.process.wait(20) == 0
    stream.join()
    assert texts[0].startswith(STREAM)
