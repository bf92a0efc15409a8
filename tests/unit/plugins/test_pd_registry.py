"""The registry module against a FAKE Docker socket that plays recorded streams."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar

import pytest

from pdinfra.reading.registry import transfers
from plugins.modules import pd_registry
from plugins.modules.pd_registry import Desk

PULL = """
{"status":"Pulling from himg/gold","id":"1"}
{"status":"Already exists","progressDetail":{},"id":"9abedc01eee9"}
{"status":"Pulling fs layer","progressDetail":{},"id":"197693ba6269"}
{"status":"Pulling fs layer","progressDetail":{},"id":"bbf784a14501"}
{"status":"Downloading","progressDetail":{"current":531456,"total":60018515},"id":"197693ba6269"}
{"status":"Downloading","progressDetail":{"current":40018512,"total":60018512},"id":"bbf784a14501"}
{"status":"Verifying Checksum","progressDetail":{},"id":"197693ba6269"}
{"status":"Download complete","progressDetail":{},"id":"197693ba6269"}
{"status":"Extracting","progressDetail":{"current":557056,"total":60018515},"id":"197693ba6269"}
""".strip().splitlines()
"""Recorded from Docker 20.10 (bars left out); breaks off in the middle."""

END = """
{"status":"Pull complete","progressDetail":{},"id":"197693ba6269"}
{"status":"Pull complete","progressDetail":{},"id":"bbf784a14501"}
{"status":"Digest: sha256:5c0f90eb5b98f401862fe90b05990feb25f256cdecf2f14179b446414840b9ca"}
{"status":"Status: Downloaded newer image for 127.0.0.1:5599/himg/gold:1"}
""".strip().splitlines()

PUSH = """
{"status":"The push refers to repository [127.0.0.1:5599/himg/gold]"}
{"status":"Preparing","progressDetail":{},"id":"3741b28ff08c"}
{"status":"Pushing","progressDetail":{"current":512,"total":60000000},"id":"3741b28ff08c"}
{"status":"Pushed","progressDetail":{},"id":"3741b28ff08c"}
{"status":"1: digest: sha256:5c0f90eb5b98f401862fe90b05990feb25f256cdecf2f14179b446414840b9ca"}
{"progressDetail":{},"aux":{"Tag":"1","Digest":"sha256:5c0f","Size":1165}}
""".strip().splitlines()

MIRRORED = {"ref": "quay.io/a/v:1", "remote": "m.io/quay.io/a/v:1"}


class FakeDocker(ThreadingMixIn, UnixStreamServer):
    """A FAKE Docker engine that remembers what it was asked."""

    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        request, _ = super().get_request()
        return request, ("docker", 0)


class Handler(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str, str]]] = []
    logins: ClassVar[list[dict[str, str]]] = []
    go_on: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self.note()
        if "/lacks:" in self.path:
            return self.answer(404, [json.dumps({"message": "manifest unknown"})])
        return self.answer(200, ["{}"])

    def do_POST(self) -> None:
        self.note()
        if self.path.startswith("/images/create"):
            if "broken" in self.path:
                error = {"errorDetail": {"message": "no space left"}, "error": "no space left"}
                return self.answer(200, [*PULL, json.dumps(error)])
            return self.answer(200, PULL, END)
        if "/push" in self.path:
            return self.answer(200, PUSH)
        return self.answer(201, [])

    def note(self) -> None:
        self.asked.append((self.command, self.path))
        if "X-Registry-Auth" in self.headers:
            login = base64.urlsafe_b64decode(self.headers["X-Registry-Auth"])
            self.logins.append(json.loads(login))

    def answer(self, status: int, first: list[str], rest: list[str] | None = None) -> None:
        """Send lines; the rest of them only when the test says so."""
        self.send_response(status)
        self.end_headers()
        self.wfile.write("".join(line + "\r\n" for line in first).encode())
        self.wfile.flush()
        if rest is not None and self.go_on.wait(10):
            self.wfile.write("".join(line + "\r\n" for line in rest).encode())

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Handler]]:
    """A FAKE Docker behind the module's socket path, and no logins."""
    path = tmp_path / "docker.sock"
    monkeypatch.setattr(pd_registry, "SOCKET", str(path))
    monkeypatch.setattr(pd_registry, "LOOK_SECONDS", 0.01)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    Handler.asked.clear()
    Handler.logins.clear()
    Handler.go_on.set()
    server = FakeDocker(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Handler
    Handler.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


def told(action: str, *images: dict[str, str]) -> list[dict[str, Any]]:
    """Transfer, and return a copy of every state on the way, the last one included."""
    states: list[dict[str, Any]] = []
    end = pd_registry.transfer(
        action, list(images), 10, lambda state: states.append(json.loads(json.dumps(state)))
    )
    return [*states, end]


def test_pull_through_a_mirror_ends_with_the_images_own_name(docker: type[Handler]) -> None:
    assert told("pull", MIRRORED)[-1]["images"][0]["done"]
    assert docker.asked == [
        ("POST", "/images/create?fromImage=m.io%2Fquay.io%2Fa%2Fv&tag=1"),
        ("POST", "/images/m.io/quay.io/a/v:1/tag?repo=quay.io%2Fa%2Fv&tag=1"),
    ]


def test_pull_by_digest_asks_for_the_digest(docker: type[Handler]) -> None:
    told("pull", {"ref": "r:5000/v:1", "remote": "r:5000/v@sha256:1"})
    assert docker.asked == [
        ("POST", "/images/create?fromImage=r%3A5000%2Fv&tag=sha256%3A1"),
        ("POST", "/images/r:5000/v@sha256:1/tag?repo=r%3A5000%2Fv&tag=1"),
    ]


def test_push_tags_first(docker: type[Handler]) -> None:
    end = told("push", {"ref": "pdinfra/v:1", "remote": "127.0.0.1:5443/pdinfra/v:1"})[-1]
    assert end["images"][0]["done"]
    assert docker.asked == [
        ("POST", "/images/pdinfra/v:1/tag?repo=127.0.0.1%3A5443%2Fpdinfra%2Fv&tag=1"),
        ("POST", "/images/127.0.0.1:5443/pdinfra/v/push?tag=1"),
    ]


def test_recorded_stream_is_counted_once_per_layer() -> None:
    states = told("pull", {"ref": "v:1", "remote": "v:1"})
    lines = [transfers(state).line for state in states]
    assert lines[0] == "v:1: asking docker.io"
    assert lines[len(PULL) - 1] == "v:1: 100 of 120 MB, 1 of 3 layers complete"
    assert transfers(states[-1]).done


def test_error_in_the_stream_ends_this_image_and_not_the_next(docker: type[Handler]) -> None:
    end = told("pull", {"ref": "broken:1", "remote": "broken:1"}, {"ref": "v:1", "remote": "v:1"})[
        -1
    ]
    assert [(i["done"], i["error"]) for i in end["images"]] == [
        (False, "no space left"),
        (True, None),
    ]


def test_engine_that_is_not_there_is_an_error_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pd_registry, "SOCKET", str(tmp_path / "none.sock"))
    assert "no Docker engine answers" in transfers(told("pull", MIRRORED)[-1]).failed[0]


def test_look_tells_what_the_registry_lacks(docker: type[Handler]) -> None:
    assert pd_registry.look("r.io/has:1") is None
    assert pd_registry.look("r.io/lacks:1") == "manifest unknown"
    assert docker.asked[0] == ("GET", "/distribution/r.io/has:1/json")


def test_login_of_the_images_own_registry_goes_along(tmp_path: Path, docker: type[Handler]) -> None:
    auth = base64.b64encode(b"robot:s3:cret").decode()
    auths = {"r.io": {"auth": auth}, "https://index.docker.io/v1/": {"identitytoken": "tok"}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    for remote in ("r.io/a:1", "other.io/a:1", "a/b:1"):
        pd_registry.look(remote)
    assert docker.logins == [
        {"serveraddress": "r.io", "username": "robot", "password": "s3:cret"},
        {"serveraddress": "other.io"},
        {"serveraddress": "https://index.docker.io/v1/", "identitytoken": "tok"},
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"auths": {"r.io": {"auth": "%%%"}}}'])
def test_login_file_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    header = pd_registry.registry_auth("r.io/a:1")
    assert json.loads(base64.urlsafe_b64decode(header)) == {"serveraddress": "r.io"}


def test_watcher_sees_progress_then_the_end_of_a_worker_that_outlives_it(
    tmp_path: Path, docker: type[Handler]
) -> None:
    docker.go_on.clear()
    desk = Desk(str(tmp_path / "run"), "key")
    started = []

    def start() -> dict[str, Any]:
        started.append(1)
        return pd_registry.transfer("pull", [MIRRORED], 10, desk.write)

    until = time.monotonic() + 10
    state: dict[str, Any] = {}
    while not state and time.monotonic() < until:
        state = pd_registry.watch(desk, 1, start)
    assert transfers(state).line.endswith("MB, 1 of 3 layers complete")
    assert desk.lock() is None, "the worker holds the lock"
    docker.go_on.set()
    assert transfers(pd_registry.watch(desk, 10, start)).done
    assert [path for _, path in docker.asked if "create" in path] == [docker.asked[0][1]]
    assert desk.read() == {}, "an outcome is handed out once"


def test_transfer_whose_worker_died_is_started_again(tmp_path: Path, docker: type[Handler]) -> None:
    desk = Desk(str(tmp_path), "key")
    desk.write({"action": "pull", "done": False, "images": []})
    end = pd_registry.watch(
        desk, 10, lambda: pd_registry.transfer("pull", [MIRRORED], 10, desk.write)
    )
    assert transfers(end).done
    assert end["images"][0]["done"]


def test_old_outcome_of_a_run_that_was_given_up_does_not_count(tmp_path: Path) -> None:
    desk = Desk(str(tmp_path), "key")
    desk.write({"action": "pull", "done": True, "images": []})
    assert desk.read()["done"]
    old = time.time() - pd_registry.FRESH_SECONDS - 1
    os.utime(desk.path, (old, old))
    assert desk.read() == {}
