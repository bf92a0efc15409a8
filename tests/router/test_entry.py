"""What a client sees of the entry, before the fake vllm-router."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import wait_until
from tests.router.running import Running, running

BODY = {"model": "tiny", "prompt": "x"}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
LIMIT = 100_000


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    options = ("--max-body-bytes", str(LIMIT), "--body-seconds", "1", "--prompts-at-once", "3")
    with running(tmp_path_factory.mktemp("front"), *options) as service:
        service.pair()
        yield service


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return an error after checks that hold for all of them."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Request-Id"]
    assert "10.1.2.3" not in answer.text
    found: dict[str, Any] = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["message"]
    return found


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"model": NaN}', b"[" * 90_000],
)
def test_a_body_that_is_no_json_object_is_400(front: Running, body: bytes) -> None:
    answer = httpx.post(f"{front.url}/v1/completions", content=body)
    assert error(answer, 400)["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 1}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [[1], "a"]}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": ["x"] * 2049}, "prompt"),
        ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"max_tokens": "1"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": "2"}, "n"),
        ({"best_of": []}, "best_of"),
        ({"stream_options": []}, "stream_options"),
        ({"kv_transfer_params": {"remote_host": "x"}}, "kv_transfer_params"),
        ({"echo": True, "logprobs": 0}, "echo"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
    ],
)
def test_a_wrong_parameter_is_400_and_named(
    front: Running, change: dict[str, Any], param: str
) -> None:
    found = error(front.post({**BODY, **change}), 400)
    assert found["param"] == param
    assert found["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("hello", "messages"),
        (["hello"], "messages[0]"),
        ([{"role": "user", "content": "x"}, {"content": "x"}], "messages[1]"),
    ],
)
def test_wrong_messages_are_400_and_named(front: Running, messages: object, param: str) -> None:
    answer = front.post({**CHAT, "messages": messages}, "/v1/chat/completions")
    assert error(answer, 400)["param"] == param


def test_what_is_right_is_answered(front: Running) -> None:
    assert front.post(BODY).json()["choices"][0]["text"].startswith("x #0")
    assert front.post(CHAT, "/v1/chat/completions").status_code == 200
    assert front.ask([1, 2]).json()["choices"][0]["text"].startswith("ids[1, 2]")
    models = httpx.get(f"{front.url}/v1/models?a=b%2Fc")
    assert models.text.startswith("GET /v1/models?a=b%2Fc ")


def test_unknown_paths_and_wrong_methods(front: Running) -> None:
    for method, path in (("GET", "/nothing"), ("POST", "/add_worker"), ("GET", "/list_workers")):
        assert error(httpx.request(method, front.url + path), 404)["code"] == "unknown_url"
    wrong = httpx.get(f"{front.url}/v1/completions")
    assert error(wrong, 405)["code"] == "method_not_allowed"
    assert wrong.headers["Allow"] == "POST"


def test_a_large_body_is_413_whether_or_not_it_says_so(front: Running) -> None:
    large = json.dumps({**BODY, "prompt": "x" * LIMIT}).encode()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(large), 1000):
            yield large[start : start + 1000]

    for content in (large, chunks()):
        answer = httpx.post(f"{front.url}/v1/completions", content=content)
        assert error(answer, 413)["code"] == "request_too_large"


def test_a_zipped_body_counts_by_what_it_holds(front: Running) -> None:
    small, large = (
        gzip.compress(json.dumps({**BODY, "prompt": "x " * n}).encode()) for n in (10, LIMIT)
    )
    headers = {"Content-Encoding": "gzip"}
    url = f"{front.url}/v1/completions"
    assert httpx.post(url, content=small, headers=headers).status_code == 200
    error(httpx.post(url, content=large, headers=headers), 413)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Encoding: gzip\r\nContent-Length: 8", b"a secret"),
        (b"Transfer-Encoding: chunked", b"a secret\r\nx\r\n"),
        (b"Content-Length: nonsense", b"a secret"),
    ],
)
def test_a_body_that_cannot_be_read_is_400_and_not_logged(
    front: Running, head: bytes, body: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", int(front.url.rsplit(":", 1)[1]))) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + body)
        client.settimeout(5)
        assert client.recv(65536).split()[1] == b"400"
    assert "secret" not in front.log.read_text()


def test_a_body_that_does_not_come_is_408_and_holds_nobody_up(front: Running) -> None:
    with socket.create_connection(("127.0.0.1", int(front.url.rsplit(":", 1)[1]))) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        assert front.post(BODY).status_code == 200
        client.settimeout(5)
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_side_that_is_down_is_503_without_an_address(front: Running) -> None:
    answer = front.ask("away")
    assert error(answer, 503)["type"] == "service_unavailable"
    assert answer.headers["Retry-After"] == "1"


def test_an_engine_that_fails_is_500_without_its_words(front: Running) -> None:
    for prompt in ("crash", "fault"):
        assert "boom" not in error(front.ask(prompt), 500)["message"]


def test_an_engines_own_refusal_keeps_its_meaning(front: Running) -> None:
    found = error(front.ask("long"), 400)
    assert found == {
        "message": "too long",
        "type": "BadRequestError",
        "param": "input_tokens",
        "code": 400,
    }
    assert error(front.ask("addressed"), 404)["message"] == "no model at (address)"


def test_a_routers_plain_text_becomes_400(front: Running) -> None:
    assert "missing field" in error(front.ask("riddle"), 400)["message"]


def test_a_200_without_content_is_502(front: Running) -> None:
    error(front.ask("empty"), 502)
    error(front.ask(["x", "empty"]), 502)


@pytest.mark.parametrize("prompt", ["break", "endless", ["x", "break"], ["x", "endless"]])
def test_a_stream_that_breaks_off_does_not_look_complete(front: Running, prompt: object) -> None:
    before = front.counts()["pdinfra_entry_broken_answers_total"]
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        front.ask(prompt, stream=True)
    assert front.counts()["pdinfra_entry_broken_answers_total"] == before + 1


def test_a_list_of_prompts_is_asked_one_by_one_and_answered_as_one(front: Running) -> None:
    before = front.counts()
    answer = front.ask(["a", "bb", "ccc", "dddd", "eeeee"], n=2).json()
    after = front.counts()
    texts = [choice["text"].split(" of ")[0] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == list(range(10))
    assert texts == [f"{p} #{n}" for p in ("a", "bb", "ccc", "dddd", "eeeee") for n in (0, 1)]
    assert answer["usage"] == {"prompt_tokens": 15, "completion_tokens": 20, "total_tokens": 35}
    assert answer["id"] == "cmpl-a"
    assert after["vllm_router_asked"] - before["vllm_router_asked"] == 5
    assert after["vllm_router_most"] <= 3


def test_lists_of_token_ids_are_several_prompts(front: Running) -> None:
    choices = front.ask([[1, 2], [3]]).json()["choices"]
    assert [choice["text"].split("]")[0] for choice in choices] == ["ids[1, 2", "ids[3"]


def test_a_stream_of_several_prompts_is_one(front: Running) -> None:
    answer = front.ask(["a", "b"], n=2, stream=True, stream_options={"include_usage": True})
    assert answer.headers["Content-Type"] == "text/event-stream"
    lines = [line[6:] for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    assert lines.count("[DONE]") == 1
    *chunks, last = (json.loads(line) for line in lines[:-1])
    assert {chunk["id"] for chunk in chunks} == {last["id"]}
    said = {choice["index"]: choice["text"][:4] for chunk in chunks for choice in chunk["choices"]}
    assert said == {0: "a #0", 1: "a #1", 2: "b #0", 3: "b #1"}
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 2, "completion_tokens": 8, "total_tokens": 10}


@pytest.mark.parametrize("stream", [True, False])
def test_one_prompt_that_fails_fails_the_request(front: Running, stream: bool) -> None:
    error(front.ask(["long", "long"], stream=stream), 400)
    error(front.ask(["away", "away"], stream=stream), 503)


def test_an_id_is_kept_if_it_is_harmless(front: Running) -> None:
    assert front.post(BODY, headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    for bad in (b"x" * 129, b"a b", b"\xe9"):
        answer = front.post(BODY, headers={b"X-Request-Id": bad})
        assert len(answer.headers["X-Request-Id"]) == 32


def test_the_log_has_a_line_for_each_request_and_nothing_of_what_was_said(front: Running) -> None:
    headers = {"X-Request-Id": "find-me"}
    front.post({**BODY, "prompt": "a secret"}, "/v1/completions?token=secret", headers=headers)
    wait_until("it is logged", 5, lambda: "id=find-me" in front.log.read_text())
    (line,) = [each for each in front.log.read_text().splitlines() if "id=find-me" in each]
    words = dict(word.split("=") for word in line.split() if "=" in word)
    assert (words["method"], words["path"], words["status"], words["stream"], words["end"]) == (
        *("POST", "/v1/completions", "200", "no", "whole"),
    )
    assert int(words["bytes"]) > 0
    assert float(words["ms"]) > 0
    assert "secret" not in front.log.read_text()


def test_metrics_are_the_entrys_and_the_routers(front: Running) -> None:
    name = 'pdinfra_entry_requests_total{path="/v1/completions",status="200"}'
    before = front.counts().get(name, 0)
    front.post(BODY)
    wait_until("it is counted", 5, lambda: front.counts()[name] == before + 1)
    counts = front.counts()
    assert counts["vllm_router_asked"] > 0
    assert counts["pdinfra_entry_bodies_held_bytes"] == 0
    assert counts['pdinfra_entry_first_byte_seconds_count{path="/v1/completions"}'] > 0


def test_a_client_that_leaves_ends_the_request_inside(front: Running) -> None:
    before = front.counts()["vllm_router_left"]
    for prompt in ("hang", ["hang", "x"]):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{front.url}/v1/completions", json={**BODY, "prompt": prompt}, timeout=0.3)
    wait_until("both ended", 5, lambda: front.counts()["vllm_router_left"] == before + 2)
    assert front.state()["in_flight"] == 0


def test_too_many_requests_are_503_and_a_client_that_takes_nothing_is_cut(tmp_path: Path) -> None:
    with running(tmp_path, "--max-requests", "1", "--client-seconds", "1") as front:
        front.pair()
        with socket.create_connection(("127.0.0.1", int(front.url.rsplit(":", 1)[1]))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            body = json.dumps({**BODY, "prompt": "big"}).encode()
            head = (
                f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body)
            wait_until("it is in hand", 5, lambda: front.state()["in_flight"] == 1)
            refused = front.post(BODY)
            assert error(refused, 503)["type"] == "service_unavailable"
            assert refused.headers["Retry-After"] == "1"
            began = time.monotonic()
            wait_until("it is cut", 5, lambda: front.state()["in_flight"] == 0)
            assert time.monotonic() - began < 4
        assert resident(front.process.pid) < 150 << 20
        assert front.post(BODY).status_code == 200


def resident(pid: int) -> int:
    """Return a process's bytes in memory at their most."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10
