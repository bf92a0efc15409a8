"""Every connector that runs on CPU, across hosts: KV moves, texts are right, one line switches.

Real are vLLM, NIXL, Mooncake over TCP, the shared folder and the routers. Nothing is simulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.commands import Result, pdinfra, wait_until
from tests.lab.fleet import (
    INVENTORY,
    address,
    change_variables,
    identities,
    on_host,
    put_into_groups,
    up,
)
from tests.texts import completions, prompts

pytestmark = pytest.mark.lab

MODEL = "tiny-qwen2"
PREFILL, DECODE, ROUTER = "prefill-node2-0", "decode-node3-0", "router"
PLAIN = "pd-plain"
PLAIN_PORT = 8400
ASKED = prompts(50, 3000)
SHARED = "/srv/shared/kv"
CONNECTORS = ["nixl", "shared-storage", "multi", "mooncake"]


def plain(host: str) -> str:
    """Start the decode engine's twin without a connector on a host; return its URL."""
    found = pdinfra("plan", "--offline", "--json", "--commands", inventory=INVENTORY)
    words: list[str] = found.json["commands"][PREFILL]
    at = words.index("--kv-transfer-config")
    del words[at : at + 2]
    words[words.index("--port") + 1] = str(PLAIN_PORT)
    words = [f"--name={PLAIN}" if word.startswith("--name=") else word for word in words]
    words = ["VLLM_PORT=12800" if word.startswith("VLLM_PORT=") else word for word in words]
    done = on_host(host, *words)
    assert done.code == 0, done.text
    url = f"http://{address(host)}:{PLAIN_PORT}"
    wait_until("the undisaggregated server answers", 300, lambda: well(url))
    return url


def well(url: str) -> bool:
    """Tell whether a server's /health is 200."""
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def service(fleet: None) -> Iterator[Result]:
    """Router, prefill and decode, each on a host of its own, with the default connector."""
    pdinfra("down", inventory=INVENTORY)
    put_into_groups("node1", "router")
    put_into_groups("node2", "prefill")
    put_into_groups("node3", "decode")
    made = on_host("node2", "mkdir", "-m", "1777", "-p", SHARED)
    assert made.code == 0, made.text
    change_variables(pd_connector="nixl", pd_kv_path=SHARED)
    yield up()
    pdinfra("down", inventory=INVENTORY)
    change_variables(pd_connector=None, pd_kv_path=None)


@pytest.fixture(scope="module")
def expected(service: Result) -> list[str]:
    """Return what an undisaggregated server says to all prompts; it is gone afterwards."""
    assert service.code == 0, service.text
    try:
        return completions(plain("node2"), MODEL, ASKED)
    finally:
        on_host("node2", "docker", "rm", "-f", PLAIN)


@pytest.mark.parametrize("connector", CONNECTORS)
def test_one_line_switches_and_every_text_is_the_one_of_an_undisaggregated_server(
    connector: str, expected: list[str]
) -> None:
    before = identities(3)
    change_variables(pd_connector=connector)
    if connector != CONNECTORS[0]:
        planned = pdinfra("plan", "--json", inventory=INVENTORY).json["changes"]
        actions = {c["id"]: c["action"] for c in planned if c["kind"] in ("instance", "router")}
        assert actions[PREFILL] == actions[DECODE] == "replace"
        done = up()
        assert done.code == 0, done.text
        assert identities(3)[PREFILL] != before[PREFILL]
    assert_moved(pdinfra("verify", "--json", inventory=INVENTORY))
    texts = completions(f"http://{address('node1')}:8000", MODEL, ASKED)
    wrong = [
        (len(prompt), text, right)
        for prompt, text, right in zip(ASKED, texts, expected, strict=True)
        if text != right
    ]
    assert wrong == []
    again = pdinfra("plan", "--json", "--detailed-exitcode", inventory=INVENTORY)
    assert again.code == 0, again.text


def assert_moved(verify: Result) -> None:
    """Fail unless every pair's KV came from outside the decode engine, by its own counter."""
    assert verify.code == 0, verify.text
    pairs: list[dict[str, Any]] = verify.json["pairs"]
    assert [(pair["prefill"], pair["decode"]) for pair in pairs] == [(PREFILL, DECODE)]
    assert all(pair["external_tokens"] > 0 for pair in pairs)
