"""The prompts that services are compared on, and the comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from tests.texts import ORDINARY, Difference, differences, prompts


def test_prompts_have_every_size_and_are_the_seeds_own() -> None:
    asked = prompts(count=100, longest=3000, seed=1)
    lengths = sorted(map(len, asked))
    assert (len(asked), lengths[0], lengths[-1]) == (100, 1, 3000)
    assert sum(length <= 10 for length in lengths) >= 25
    assert sum(length >= 1000 for length in lengths) >= 10
    assert {token for prompt in asked for token in prompt} <= set(ORDINARY)
    assert asked == prompts(count=100, longest=3000, seed=1)
    assert asked != prompts(count=100, longest=3000, seed=2)


class Server(BaseHTTPRequestHandler):
    """Answers with the prompt's length, and refuses a prompt of 13 tokens."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        length = len(body["prompt"])
        answer = json.dumps({"choices": [{"text": self.said(length)}]}).encode()
        self.send_response(500 if length == 13 else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def said(self, length: int) -> str:
        return f"{length} tokens"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Liar(Server):
    def said(self, length: int) -> str:
        return "wrong" if length == 7 else super().said(length)


@pytest.fixture
def urls() -> Iterator[list[str]]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (Server, Liar)]
    for server in servers:
        Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_prompts_whose_texts_differ_are_named(urls: list[str]) -> None:
    asked = [[5] * length for length in (3, 7, 9)]
    assert differences(urls[0], urls[1], "tiny", asked) == [Difference(1, 7, "7 tokens", "wrong")]
    assert differences(urls[0], urls[0], "tiny", asked) == []


def test_an_answer_that_is_no_answer_is_an_error(urls: list[str]) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        differences(urls[0], urls[0], "tiny", [[5] * 13])
