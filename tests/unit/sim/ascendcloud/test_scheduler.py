"""The scheduler; prefill and decode are fakes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from pdinfra.verify.engines import REMOTE_DECODE
from tests.commands import BIN, ROOT
from tests.router.running import free_ports
from tests.sim.ascendcloud.simulator import member, options, scheduler, tables
from tests.sim.ascendcloud.simulator.main import main
from tests.unit.sim.ascendcloud.instances import (
    GLOBAL,
    HOST,
    HOST_TABLE,
    Node,
    edit,
    local_name,
    topology,
    write_tables,
)

START = ROOT / "tests" / "sim" / "ascendcloud" / "start_servers.sh"
STREAM = "data: one\n\ndata: [DONE]\n\n"
COMPLETIONS = "/v1/completions"
ASKED = {"model": "tiny", "prompt": "Hi", "max_tokens": 3}


@dataclass
class Fake:
    """FAKE instance: says who it is as a real one does, and notes what it is asked."""

    identity: dict[str, Any]
    port: int = 0
    healthy: bool = True
    answer: int = 200
    breaks_off: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def listen(self, stack: ExitStack) -> None:
        """Serve until the stack ends."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == member.PATH:
                    self.say(200, json.dumps(fake.identity))
                elif self.path == "/health":
                    self.say(200 if fake.healthy else 503, "")
                elif self.path == "/v1/models":
                    self.say(200, json.dumps({"data": [{"id": "tiny"}]}))
                else:
                    lines = [f'{name}{{engine="0"}} {n}' for name, n in fake.metrics.items()]
                    self.say(200, "\n".join(lines))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append(body)
                fake.keys.append(self.headers["Authorization"])
                if fake.answer != 200:
                    self.say(fake.answer, '{"error": "FAKE"}')
                elif body.get("stream"):
                    self.say(200, STREAM, "text/event-stream")
                else:
                    handed = (
                        {"remote_block_ids": [7]} if fake.identity["role"] == "prefill" else None
                    )
                    text = {"choices": [{"text": " there"}], "kv_transfer_params": handed}
                    self.say(200, json.dumps(text))

            def say(self, status: int, text: str, kind: str = "application/json") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text) + fake.breaks_off))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *words: object) -> None:
                pass

        server = ThreadingHTTPServer((HOST, self.port), Handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)


@dataclass
class Service:
    """The members of a table, and a scheduler that a test starts."""

    node: Node
    members: list[Fake]
    stack: ExitStack
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ports(self) -> str:
        return ",".join(str(each.port) for each in self.members)

    def process(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start the scheduler as a process of its own."""
        whole = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            **self.node.variables(HOST_TABLE),
            "NODE_PORTS": self.ports(),
            **env,
        }
        command = ["sh", str(START), *self.node.arguments(*words, port=self.port)]
        started = subprocess.Popen(command, env=whole, stderr=subprocess.PIPE, text=True)
        self.stack.callback(started.wait)
        self.stack.callback(started.kill)
        return started

    def start(self, *words: str, openai: bool = True) -> None:
        """Run the scheduler in this process until the test ends; wait until it serves."""
        found = tables.read(self.node.container(HOST_TABLE))
        asked = options.parse(self.node.arguments(*words, port=self.port))
        loop = asyncio.new_event_loop()
        task = loop.create_task(scheduler.serve(found, asked, self.ports(), openai=openai))
        thread = threading.Thread(target=run, args=[loop, task])
        thread.start()
        self.stack.callback(thread.join)
        self.stack.callback(lambda: loop.call_soon_threadsafe(task.cancel))
        self.wait_for_health(200)

    def wait_for_health(self, status: int) -> None:
        deadline = time.monotonic() + 20
        while self.health() != status:
            assert time.monotonic() < deadline, f"/health does not become {status}"
            time.sleep(0.02)

    def refusal(self, ports: str | None = None, **env: str) -> str:
        """Start a scheduler that must refuse; return what it says."""
        container = self.node.container(HOST_TABLE)
        env = {**container.env, "NODE_PORTS": self.ports() if ports is None else ports, **env}
        with pytest.MonkeyPatch.context() as patch:
            said: list[str] = []
            patch.setattr("tests.sim.ascendcloud.simulator.main.say", said.append)
            words = self.node.arguments(port=self.port)
            assert main(words, replace(container, env=env)) == 1
        return said[-1]

    def health(self) -> int:
        try:
            return httpx.get(f"{self.url}/health").status_code
        except httpx.TransportError:
            return 0

    def ask(self, path: str = COMPLETIONS, **more: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json={**ASKED, **more})


def run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def made(node: Node, prefill: int, decode: int) -> Iterator[Service]:
    """Write the tables, start the members."""
    write_tables(node.tables, topology(prefill, decode))
    with ExitStack() as stack:
        found = []
        for number in range(prefill + decode):
            local = local_name(f"{2 * number}{2 * number + 1}")
            instance = tables.read(node.container(local))
            asked = options.parse(node.arguments())
            found.append(Fake(member.identity(instance, asked)))
            found[-1].listen(stack)
        yield Service(node, found, stack, free_ports(1)[0])


@pytest.fixture
def pair(node: Node) -> Iterator[Service]:
    yield from made(node, 1, 1)


@pytest.fixture
def four(node: Node) -> Iterator[Service]:
    yield from made(node, 2, 2)


def test_request_goes_to_prefill_and_with_its_kv_to_decode(pair: Service) -> None:
    pair.start()
    prefill, decode = pair.members
    answer = httpx.post(
        f"{pair.url}{COMPLETIONS}",
        json={**ASKED, "min_tokens": 2},
        headers={"Authorization": "Bearer key"},
    )
    assert answer.json()["choices"] == [{"text": " there"}]
    asked = {"max_tokens": 1, "stream": False, "kv_transfer_params": REMOTE_DECODE}
    assert prefill.requests == [{**ASKED, **asked}]
    handed = {"kv_transfer_params": {"remote_block_ids": [7]}}
    assert decode.requests == [{**ASKED, "min_tokens": 2, **handed}]
    assert prefill.keys == decode.keys == ["Bearer key"]


def test_stream_comes_from_decode(pair: Service) -> None:
    pair.start()
    answer = pair.ask("/v1/chat/completions", stream=True, stream_options={"include_usage": True})
    assert answer.text == STREAM
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert "stream_options" not in pair.members[0].requests[0]


def test_stream_that_breaks_off_does_not_look_complete(pair: Service) -> None:
    pair.start()
    pair.members[1].breaks_off = True
    with pytest.raises(httpx.RemoteProtocolError):
        pair.ask(stream=True)
    assert len(pair.members[1].requests) == 1


def test_models_and_both_paths_of_health(pair: Service) -> None:
    pair.start()
    assert httpx.get(f"{pair.url}/v1/models").json()["data"] == [{"id": "tiny"}]
    assert httpx.get(f"{pair.url}/healthcheck").status_code == 200


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"model": "other"}, 404),
        ({"prompt": ["one", "two"]}, 400),
        ({"n": 2}, 400),
        ({"prompt": ["one"], "n": None}, 200),
        ({"prompt": [1, 2, 3]}, 200),
    ],
)
def test_what_would_decode_on_foreign_kv_is_refused(
    pair: Service, more: dict[str, Any], status: int
) -> None:
    pair.start()
    assert pair.ask(**more).status_code == status


def test_body_that_is_no_json(pair: Service) -> None:
    pair.start()
    answer = httpx.post(f"{pair.url}{COMPLETIONS}", content=b"{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)


def test_clients_own_mistake_is_not_tried_elsewhere(four: Service) -> None:
    four.start()
    for each in four.members:
        each.answer = 422
    assert four.ask().status_code == 422
    assert sum(len(each.requests) for each in four.members) == 1


@pytest.mark.parametrize("at", [0, 2])
def test_request_whose_member_fails_goes_to_another_one(four: Service, at: int) -> None:
    four.start()
    four.members[at].answer = 500
    assert [four.ask().status_code for _ in range(6)] == [200] * 6
    assert four.members[at].requests


def test_nobody_left(pair: Service) -> None:
    pair.start()
    pair.members[1].answer = 500
    answer = pair.ask()
    assert answer.status_code == 503
    assert "decode 127.0.0.1 devices 2,3" in answer.json()["error"]["message"]


def test_member_that_is_down_is_skipped_and_comes_back(four: Service) -> None:
    four.start()
    decode = four.members[2:]
    for each in decode:
        each.healthy = False
    four.wait_for_health(503)
    assert four.ask().status_code == 503
    decode[1].healthy = True
    four.wait_for_health(200)
    assert four.ask().status_code == 200
    assert [len(each.requests) for each in decode] == [0, 1]


def test_round_robin_is_the_default(four: Service) -> None:
    four.start()
    for _ in range(4):
        four.ask()
    assert [len(each.requests) for each in four.members[:2]] == [2, 2]


@pytest.mark.parametrize(
    ("policy", "gauge"),
    [("FreeKVFirst", "vllm:kv_cache_usage_perc"), ("BLB", "vllm:num_requests_waiting")],
)
def test_policies_read_the_members_metrics(four: Service, policy: str, gauge: str) -> None:
    four.start("--prefill-routing-policy", policy)
    busy, idle = four.members[:2]
    busy.metrics, idle.metrics = {gauge: 0.5}, {gauge: 0.25}
    for _ in range(3):
        four.ask()
    assert (len(busy.requests), len(idle.requests)) == (0, 3)


def test_old_interface_of_vllm(pair: Service) -> None:
    pair.start(openai=False)
    answer = httpx.post(f"{pair.url}/generate", json={"prompt": "Hi", "max_tokens": 3})
    assert answer.json() == {"text": ["Hi there"]}
    assert pair.ask().status_code == 404


def test_it_ends_when_told(pair: Service) -> None:
    started = pair.process()
    pair.wait_for_health(200)
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=5) == 0


def test_swapped_ports(pair: Service) -> None:
    swapped = ",".join(reversed(pair.ports().split(",")))
    said = pair.refusal(swapped)
    assert f"NODE_PORTS {swapped} is not in the order of the global table" in said
    assert "is in truth decode 127.0.0.1 devices 2,3" in said


@pytest.mark.parametrize("ports", ["", "8088", "8088,8089,8090", "8088,x"])
def test_ports_that_do_not_fit_the_table(pair: Service, ports: str) -> None:
    assert "NODE_PORTS" in pair.refusal(ports)


def test_members_start_first(pair: Service) -> None:
    silent = free_ports(1)[0]
    said = pair.refusal(f"{pair.members[0].port},{silent}")
    assert f"decode 127.0.0.1 devices 2,3 at 127.0.0.1:{silent} does not answer" in said
    assert "Start prefill and decode first" in said


def test_member_with_another_global_table(pair: Service) -> None:
    edit(pair.node.tables / GLOBAL, lambda table: table.update(note="regenerated"))
    assert "was started with another global rank table" in pair.refusal()


def test_member_with_another_model(pair: Service) -> None:
    pair.members[0].identity["models"] = ["other"]
    assert "serves other, the scheduler is to serve tiny" in pair.refusal()


def test_proxy_of_the_environment_is_in_the_way_without_no_proxy(pair: Service) -> None:
    nobody = f"http://{HOST}:{free_ports(1)[0]}"
    refused = pair.process(http_proxy=nobody)
    assert "does not answer" in refused.communicate(timeout=20)[1]
    pair.process(http_proxy=nobody, no_proxy=f"localhost,{HOST}")
    pair.wait_for_health(200)
    assert pair.ask().status_code == 200


def test_port_that_somebody_has(pair: Service) -> None:
    pair.port = pair.members[0].port
    assert f"cannot listen on {HOST}:{pair.port}" in pair.refusal()


def test_value_of_use_openai_that_does_not_exist(pair: Service) -> None:
    assert "USE_OPENAI is 'yes', not 0 or 1" in pair.refusal(USE_OPENAI="yes")
