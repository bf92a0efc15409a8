"""A PD service across hosts: real vLLM on CPU, KV over NIXL across the lab's network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pdinfra.verify.counters import EXTERNAL, prompt_tokens
from tests.commands import BIN, ROOT, Result, pdinfra, playbook, wait_until
from tests.lab.fleet import (
    INVENTORY,
    address,
    identities,
    lab,
    on_host,
    put_into_groups,
    up,
)
from tests.load import Load

pytestmark = pytest.mark.lab

OLD = {"router", "prefill-node2-0", "decode-node2-0", "decode-node3-0"}


def external(host: str) -> int:
    """Return how many prompt tokens' KV came to the host's decode engine from outside."""
    text = httpx.get(f"http://{address(host)}:8200/metrics", timeout=10).text
    return prompt_tokens(text).get(EXTERNAL, 0)


@pytest.fixture(scope="module")
def service(fleet: None) -> Result:
    """Router, two decode hosts, one of them with prefill, from nothing."""
    put_into_groups("node2", "prefill", "decode")
    return up()


def test_up_proves_every_pair_across_hosts(service: Result) -> None:
    assert service.code == 0, service.text
    assert service.json["summary"]["replace"] == service.json["summary"]["remove"] == 0
    verify = pdinfra("verify", "--json", inventory=INVENTORY)
    assert verify.code == 0, verify.text
    pairs = {(pair["prefill"], pair["decode"]) for pair in verify.json["pairs"]}
    assert pairs == {("prefill-node2-0", f"decode-node{n}-0") for n in (2, 3)}
    assert all(pair["external_tokens"] > 0 for pair in verify.json["pairs"])
    assert verify.json["completion"]["text"].strip()
    assert pdinfra("status", inventory=INVENTORY).code == 0


@pytest.mark.usefixtures("service")
def test_doctor_has_nothing_to_say_about_a_healthy_service() -> None:
    doctor = pdinfra("doctor", "--json", inventory=INVENTORY)
    assert doctor.code == 0, doctor.text
    assert [check for check in doctor.json["checks"] if check["status"] != "ok"] == []


@pytest.mark.usefixtures("service")
def test_a_second_run_a_limited_one_and_a_dry_one_change_nothing() -> None:
    before = identities(3)
    assert set(before) == OLD
    again = up()
    assert again.code == 0, again.text
    assert again.json["summary"] == {"create": 0, "replace": 0, "keep": 4, "remove": 0}
    limited = up("--limit", "node3")
    assert limited.code == 0, limited.text
    assert {change["host"] for change in limited.json["changes"]} == {"node3"}
    dry = playbook("site.yml", "--check", "--diff", inventory=INVENTORY)
    assert dry.code == 0, dry.text
    assert "changed=0" in dry.out
    assert identities(3) == before


@pytest.mark.usefixtures("service")
def test_a_new_decode_host_joins_under_load_and_leaves_again() -> None:
    before = identities(3)
    assert lab("up", "--hosts", "4").code == 0
    url = f"http://{address('node1')}:8000"
    with Load(url, "tiny-qwen2") as load:
        dry = playbook("site.yml", "--check", "--diff", inventory=INVENTORY)
        assert dry.code == 0, dry.text
        out = up()
        assert out.code == 0, out.text
        touched = {(c["host"], c["action"]) for c in out.json["changes"] if c["action"] != "keep"}
        assert touched == {("node4", "create"), ("node1", "create")}
        members = [c for c in out.json["changes"] if c["host"] == "node1" and c["action"] != "keep"]
        assert [(c["kind"], c["id"]) for c in members] == [("member", "decode-node4-0")]
        had = external("node4")
        wait_until("the new decode gets traffic", 60, lambda: external("node4") > had)
        after = identities(4)
        assert {name: after[name] for name in OLD} == before
        assert set(after) - OLD == {"decode-node4-0"}

        put_into_groups("node4")
        back = up()
        assert back.code == 0, back.text
    assert load.failed == []
    assert load.answered > 20
    assert identities(4) == before


@pytest.mark.usefixtures("service")
def test_a_host_that_dies_in_the_middle_is_named_and_the_next_run_finishes() -> None:
    before = identities(3)
    on_host("node3", "docker", "rm", "-f", "pd-pd-decode-node3-0")
    words = [sys.executable, "-m", "pdinfra", "up", "--yes", "-i", str(INVENTORY)]
    running = subprocess.Popen(
        words,
        cwd=ROOT,
        env={"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(Path.home())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(
        "the new container is on node3",
        120,
        lambda: "pd-pd-decode-node3-0" in on_host("node3", "docker", "ps").out,
    )
    assert lab("fault", "on", "node3", "pause").code == 0
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 1
    assert "node3: unreachable" in errors
    assert lab("fault", "off", "node3", "pause").code == 0
    rest = OLD - {"decode-node3-0"}
    assert {name: identity for name, identity in identities(3).items() if name in rest} == {
        name: before[name] for name in rest
    }
    finished = up()
    assert finished.code == 0, finished.text
    assert finished.json["summary"]["replace"] == finished.json["summary"]["remove"] == 0
    assert {name: before[name] for name in rest}.items() <= identities(3).items()


@pytest.mark.usefixtures("service")
def test_down_leaves_no_container() -> None:
    down = pdinfra("down", inventory=INVENTORY)
    assert down.code == 0, down.text
    assert identities(3) == {}
