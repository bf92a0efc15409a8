"""How far a transfer is, and what Docker's errors mean. Texts are Docker 20.10's and 28's own."""

from __future__ import annotations

from typing import Any

import pytest

from pdinfra.reading.registry import missing, transfers, unanswered

REMOTE = "quay.io/ascend/vllm-ascend:v0.10.0rc1"


def layer(status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    return {"status": status, "current": current * 10**6, "total": total * 10**6}


def image(*layers: dict[str, Any], remote: str = REMOTE, **more: Any) -> dict[str, Any]:
    named = {str(number): item for number, item in enumerate(layers)}
    return {"ref": "v:1", "remote": remote, "layers": named, "done": False, "error": None, **more}


def pulling(*images: dict[str, Any], done: bool = False) -> dict[str, Any]:
    return {"action": "pull", "images": list(images), "done": done}


def explained(error: str, remote: str = REMOTE) -> str:
    found = transfers(pulling(image(remote=remote, error=error), done=True))
    assert found.done
    return found.failed[0]


def test_bytes_and_layers_are_counted() -> None:
    raw = pulling(
        image(
            layer("Pull complete", 300, 300),
            layer("Extracting", 200, 500),
            layer("Downloading", 12, 1470),
            layer("Already exists"),
        )
    )
    line = "vllm-ascend:v0.10.0rc1: 812 of 2270 MB, 2 of 4 layers complete"
    assert transfers(raw).line == line
    assert not transfers(raw).done


def test_image_that_is_fetched_is_being_unpacked() -> None:
    raw = pulling(image(layer("Pull complete", 162, 162), layer("Extracting", 500, 500)))
    line = "vllm-ascend:v0.10.0rc1: 662 MB fetched, unpacking, 1 of 2 layers complete"
    assert transfers(raw).line == line


def test_size_is_open_while_layers_wait() -> None:
    raw = pulling(image(layer("Downloading", 10, 60), layer("Waiting")))
    assert transfers(raw).line == "vllm-ascend:v0.10.0rc1: 10 of 60+ MB, 0 of 2 layers complete"


def test_push_that_counts_beyond_the_layer_stays_within_it() -> None:
    raw = {**pulling(image(layer("Pushing", 61, 60), layer("Mounted from a/b"))), "action": "push"}
    assert transfers(raw).line == "vllm-ascend:v0.10.0rc1: 60 of 60 MB, 1 of 2 layers complete"


def test_before_the_first_layer_the_registry_is_named() -> None:
    assert transfers(pulling(image())).line == "vllm-ascend:v0.10.0rc1: asking quay.io"


def test_image_asked_by_digest_is_shown_by_its_name() -> None:
    raw = pulling(image(remote="quay.io/a/v@sha256:" + "a" * 64))
    assert transfers(raw).line == "v: asking quay.io"


def test_the_image_that_runs_is_the_one_that_is_shown() -> None:
    raw = pulling(image(done=True), image(remote="quay.io/a/second:2"))
    assert transfers(raw).line.startswith("second:2")


def test_transfer_just_started_is_not_done() -> None:
    found = transfers({"action": "pull", "images": [], "done": False})
    assert (found.done, found.line, found.failed) == (False, "", ())


@pytest.mark.parametrize(
    ("words", "cause", "fix"),
    [
        (
            'Get "https://quay.io/v2/": x509: certificate signed by unknown authority',
            "authority that is not known",
            "/etc/docker/certs.d/quay.io/ca.crt",
        ),
        (
            'Get "https://quay.io/v2/": http: server gave HTTP response to HTTPS client',
            "plain HTTP",
            "insecure-registries",
        ),
        (
            'Get "https://quay.io/v2/": dial tcp: lookup quay.io on 192.0.2.53:53: no such host',
            "does not resolve",
            "pd_image_mirror",
        ),
        (
            'Get "http://quay.io/v2/": dial tcp 192.0.2.1:443: connect: connection refused',
            "nothing listens",
            "start the registry",
        ),
        (
            'Get "https://quay.io/v2/": net/http: request canceled while waiting for connection '
            "(Client.Timeout exceeded while awaiting headers)",
            "cannot be reached",
            "complete layers are kept",
        ),
        ("timed out", "cannot be reached", "proxy"),
        (
            "manifest for quay.io/a/v:2 not found: manifest unknown: manifest unknown",
            "has no such image",
            "name, tag or digest",
        ),
        ("unauthorized: access to the requested resource is not authorized", "no login", "login"),
        (
            "pull access denied for v, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied",
            "no such repository",
            "docker login",
        ),
        (
            "failed to register layer: write /usr/lib/x.so: no space left on device",
            "disk of Docker's data-root is full",
            "docker system df",
        ),
        (
            "toomanyrequests: You have reached your pull rate limit.",
            "refuses more pulls",
            "pd_image_mirror",
        ),
        ("[Errno 2] No such file or directory", "no Docker engine answers", "start Docker"),
        ("[Errno 13] Permission denied", "no Docker engine answers", "group docker"),
    ],
)
def test_usual_error_is_one_line_with_its_fix(words: str, cause: str, fix: str) -> None:
    line = explained(words)
    assert "\n" not in line
    assert line.startswith(f"{REMOTE}: ")
    assert cause in line.partition("Fix:")[0]
    assert fix in line.partition("Fix:")[2].partition("(Docker:")[0]
    assert words in line


def test_unusual_error_is_told_in_dockers_own_words() -> None:
    assert "filesystem layer verification failed" in explained(
        "filesystem layer\nverification failed for digest sha256:1"
    )


def test_registry_that_lacks_or_hides_an_image_is_told_from_one_that_gives_no_answer() -> None:
    words = {
        "r/has:1": None,
        "r/lacks:1": "manifest unknown: manifest unknown",
        "r/hides:1": "unauthorized: authentication required",
        "r/down:1": 'Get "https://r/v2/": dial tcp 192.0.2.1:443: connect: connection refused',
        "r/engine:1": "[Errno 13] Permission denied",
    }
    raw = {"images": [{"remote": remote, "error": error} for remote, error in words.items()]}
    assert missing(raw) == ["r/lacks:1", "r/hides:1"]
    assert [line.partition(": ")[0] for line in unanswered(raw)] == ["r/down:1", "r/engine:1"]
