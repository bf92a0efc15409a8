"""One engine over two hosts, without Ray: real vLLM, nothing is simulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commands import Result, pdinfra, wait_until
from tests.lab.fleet import (
    HOSTS,
    INVENTORY,
    address,
    change_variables,
    identities,
    on_host,
    put_into_groups,
    set_host,
    up,
)
from tests.texts import completions, prompts

pytestmark = pytest.mark.lab

MODEL = "tiny-qwen2"
WHOLE, PART = "mixed-node1-0", "mixed-node1-0-n1"
ASKED = prompts(20, 1000)


@pytest.fixture(scope="module")
def service(fleet: None) -> Iterator[list[str]]:
    """What an engine on one host says to the prompts; then it goes over two hosts."""
    before = HOSTS.read_text()
    pdinfra("down", inventory=INVENTORY)
    put_into_groups("node1", "router", "mixed")
    put_into_groups("node2")
    put_into_groups("node3")
    change_variables(pd_connector=None, pd_kv_path=None)
    alone = up()
    assert alone.code == 0, alone.text
    expected = answers()
    set_host(
        "node1", pd_instances=[{"role": "mixed", "tensor_parallel_size": 2, "hosts": ["node2"]}]
    )
    yield expected
    pdinfra("down", inventory=INVENTORY)
    HOSTS.write_text(before)


def answers() -> list[str]:
    """Return what the service's engine says to all prompts."""
    return completions(f"http://{address('node1')}:8300", MODEL, ASKED)


def members() -> list[dict[str, object]]:
    """Return the service's instances as `status` shows them."""
    found: list[dict[str, object]] = pdinfra("status", "--json", inventory=INVENTORY).json[
        "instances"
    ]
    return found


def actions(planned: Result) -> dict[str, str]:
    """Return what a plan would do to the containers of the instance."""
    return {c["id"]: c["action"] for c in planned.json["changes"] if c["kind"] == "instance"}


def test_an_engine_over_two_hosts_says_what_one_on_one_host_says(service: list[str]) -> None:
    made = up()
    assert made.code == 0, made.text
    assert pdinfra("verify", inventory=INVENTORY).code == 0
    assert answers() == service
    assert [(row["id"], row["ready"]) for row in members()] == [(WHOLE, True)]
    there = identities(2)
    assert PART in there
    again = pdinfra("plan", "--json", "--detailed-exitcode", inventory=INVENTORY)
    assert again.code == 0, again.text
    assert identities(2) == there


def test_a_part_that_lost_the_first_host_is_seen_and_mended(service: list[str]) -> None:
    name = f"pd-pd-{WHOLE}"
    killed = on_host("node1", "docker", "exec", name, "pkill", "-9", "-f", "VLLM::EngineCore")
    assert killed.code == 0, killed.text
    wait_until(
        "the part turns unhealthy",
        120,
        lambda: (
            actions(pdinfra("plan", "--json", inventory=INVENTORY))
            == {WHOLE: "replace", PART: "replace"}
        ),
    )
    assert [row["ready"] for row in members()] == [False]
    mended = up()
    assert mended.code == 0, mended.text
    assert answers() == service
