"""LLMDataDist of vllm-ascend across hosts: SIMULATED NPUs and plugin, real vLLM on CPU below.

Real are the hosts, their rank tables and containers, and the KV, which NIXL moves. See the READMEs
of tests/sim/ascend and tests/sim/vllm_ascend.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import Result, command, pdinfra
from tests.lab import vllm_ascend_sim
from tests.lab.fleet import (
    INVENTORY,
    address,
    change_variables,
    identities,
    on_host,
    publish,
    put_into_groups,
    up,
)

pytestmark = pytest.mark.lab

VERSION = "v0.10.1rc1"
TABLE = "DISAGGREGATED_PREFILL_RANK_TABLE_PATH"
SERVICE = {
    "pd_accelerator": "ascend",
    "pd_connector": "LLMDataDistCMgrConnector",
    "pd_tensor_parallel_size": 2,
    # The default, 64, is for hosts with more memory than the lab's.
    "pd_shm_gib": 1,
}
PREFILL, FIRST, SECOND = "prefill-node3-0", "decode-node2-0", "decode-node3-0"
Lists = dict[str, dict[str, str]]
"""Devices by role, by host."""
BEFORE: Lists = {"node2": {"decode": "0,1"}, "node3": {"prefill": "0,1"}}
AFTER: Lists = {**BEFORE, "node3": {"prefill": "0,1", "decode": "2,3"}}
DEVICE = "3"
"""Of the host that joins decode; its prefill engine has others."""


def read_by(instance: str) -> tuple[str, str]:
    """Return path and text of the rank table, as the engine's container sees it."""
    inside = ("docker", "exec", f"pd-pd-{instance}", "sh", "-c")
    host = instance.split("-")[1]
    path = on_host(host, *inside, f'printf %s "${TABLE}"').out
    return path, on_host(host, *inside, f'cat "${TABLE}"').out


def written_by_hand(folder: Path, image: str, lists: Lists) -> Path:
    """Make the service's table as a person does: `gen` with each host's hccn.conf, then `merge`."""
    parts = []
    for host, devices in lists.items():
        conf = folder / f"{host}-hccn.conf"
        conf.write_text(on_host(host, "cat", "/etc/hccn.conf").out)
        named = [w for role, ids in devices.items() for w in (f"--{role}-server-list", ids)]
        made = ranktable(
            "gen", "--image", image, "--ip", address(host), *named,
            "--hccn-conf", str(conf), "--save-dir", str(folder / host),
        )  # fmt: skip
        parts += made.json["files"]
    merged = ranktable("merge", "--global-ranktable-list", *parts, "--save-dir", str(folder))
    return Path(merged.json["files"][0])


def ranktable(*words: str) -> Result:
    """Run a verb of `ranktable` that must go well."""
    done = command("python", "-m", "pdinfra", "ranktable", *words, "--json")
    assert done.code == 0, done.text
    return done


def proven(result: Result) -> set[tuple[str, str]]:
    """Return the pairs between which `up` saw KV move."""
    assert result.code == 0, result.text
    return {(p["prefill"], p["decode"]) for p in result.json["verify"]["pairs"] if moved(p)}


def moved(pair: dict[str, object]) -> bool:
    """Tell whether a pair's KV came from outside the decode engine."""
    tokens = pair["external_tokens"]
    return pair["ok"] is True and isinstance(tokens, int) and tokens > 0


def plan() -> Result:
    """Show what would change; exit code 0: nothing, 2: something."""
    return pdinfra("plan", "--json", "--detailed-exitcode", inventory=INVENTORY)


@pytest.fixture(scope="module")
def image(fleet: None, engine: docker.DockerClient) -> str:
    """Bring the simulated image of vllm-ascend into the lab's registry."""
    return publish(engine, vllm_ascend_sim.image(engine, VERSION))


@pytest.fixture(scope="module")
def service(image: str) -> Iterator[Result]:
    """Router, decode and prefill, each on a host of its own."""
    pdinfra("down", inventory=INVENTORY)
    put_into_groups("node1", "router")
    put_into_groups("node2", "decode")
    put_into_groups("node3", "prefill")
    own = {**SERVICE, "pd_image": image, "pd_image_source": "pull"}
    change_variables(**own)
    yield up()
    pdinfra("down", inventory=INVENTORY)
    change_variables(**dict.fromkeys(own))
    put_into_groups("node2", "prefill")
    put_into_groups("node3", "decode")


def test_up_proves_the_pair_with_the_table_that_ranktable_would_write(
    service: Result, image: str, tmp_path: Path
) -> None:
    assert proven(service) == {(PREFILL, FIRST)}
    by_hand = written_by_hand(tmp_path, image, BEFORE)
    for instance in (PREFILL, FIRST):
        path, text = read_by(instance)
        assert path.startswith(f"/var/lib/pdinfra/pd/ranktables/{instance}-")
        assert text == by_hand.read_text()
    ranktable("lint", "--format", "vllm-ascend", str(by_hand))
    again = plan()
    assert again.code == 0, again.text


@pytest.mark.usefixtures("service")
def test_a_second_decode_host_joins_and_what_runs_reads_of_it_without_a_restart(
    image: str, tmp_path: Path
) -> None:
    before = identities(3)
    tables = {instance: read_by(instance) for instance in (PREFILL, FIRST)}
    put_into_groups("node3", "prefill", "decode")
    joined = up()
    assert proven(joined) == {(PREFILL, FIRST), (PREFILL, SECOND)}
    after = identities(3)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {SECOND}
    by_hand = written_by_hand(tmp_path, image, AFTER).read_text()
    for instance, (path, text) in tables.items():
        assert text != by_hand
        assert read_by(instance) == (path, by_hand)
    assert read_by(SECOND)[1] == by_hand


@pytest.mark.usefixtures("service")
def test_a_card_with_another_address_touches_its_own_instance_alone() -> None:
    old = card()
    new = f"{old.rpartition('.')[0]}.77"
    readdress(new)
    try:
        changed = plan()
    finally:
        readdress(old)
    assert changed.code == 2, changed.text
    rows = [c for c in changed.json["changes"] if c["action"] != "keep"]
    touched = {(c["id"], c["action"]) for c in rows if c["kind"] != "ranktable"}
    assert touched == {(SECOND, "replace")}
    said = f"device {DEVICE} of node3 has {new} now, not {old}"
    assert {(c["host"], c["action"], c["reason"]) for c in rows if c["kind"] == "ranktable"} == {
        ("node2", "replace", f"{said}; restarts nobody"),
        ("node3", "replace", f"{said}; restarts nobody"),
        ("node3", "create", f"{said}; restarts {SECOND}"),
        ("node3", "remove", "no container reads it any more"),
    }
    again = plan()
    assert again.code == 0, again.text


def card() -> str:
    """Return the address of the device that the tests change."""
    said = on_host("node3", "hccn_tool", "-i", DEVICE, "-ip", "-g").out
    return next(
        line.removeprefix("ipaddr:") for line in said.splitlines() if line.startswith("ipaddr:")
    )


def readdress(ip: str) -> None:
    """Give that device an address."""
    setting = ("-ip", "-s", "address", ip, "netmask", "255.255.0.0")
    done = on_host("node3", "hccn_tool", "-i", DEVICE, *setting)
    assert done.code == 0, done.text
