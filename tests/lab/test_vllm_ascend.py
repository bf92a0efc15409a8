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
PREFILL, FIRST, SECOND = ("node1", "prefill"), ("node2", "decode"), ("node3", "decode")
"""Hosts and roles; each instance has its host's devices 0 and 1."""


def instance(host: str, role: str) -> str:
    """Return the id of a host's only instance of a role."""
    return f"{role}-{host}-0"


def read_by(host: str, role: str) -> tuple[str, str]:
    """Return path and text of the rank table, as the engine's container sees it."""
    inside = ("docker", "exec", f"pd-pd-{instance(host, role)}", "sh", "-c")
    path = on_host(host, *inside, f'printf %s "${TABLE}"').out
    return path, on_host(host, *inside, f'cat "${TABLE}"').out


def written_by_hand(folder: Path, image: str, *servers: tuple[str, str]) -> Path:
    """Make the service's table as a person does: `gen` with each host's hccn.conf, then `merge`."""
    parts = []
    for host, role in servers:
        conf = folder / f"{host}-hccn.conf"
        conf.write_text(on_host(host, "cat", "/etc/hccn.conf").out)
        made = ranktable(
            "gen", "--image", image, "--ip", address(host), f"--{role}-server-list", "0,1",
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
    """Router and prefill on one host, decode on another; the third has nothing."""
    pdinfra("down", inventory=INVENTORY)
    put_into_groups("node1", "router", "prefill")
    put_into_groups("node2", "decode")
    put_into_groups("node3")
    own = {**SERVICE, "pd_image": image, "pd_image_source": "pull"}
    change_variables(**own)
    yield up()
    pdinfra("down", inventory=INVENTORY)
    change_variables(**dict.fromkeys(own))
    put_into_groups("node1", "router")
    put_into_groups("node2", "prefill")
    put_into_groups("node3", "decode")


def test_up_proves_the_pair_with_the_table_that_ranktable_would_write(
    service: Result, image: str, tmp_path: Path
) -> None:
    assert proven(service) == {(instance(*PREFILL), instance(*FIRST))}
    by_hand = written_by_hand(tmp_path, image, PREFILL, FIRST)
    for engine in (PREFILL, FIRST):
        path, text = read_by(*engine)
        assert path.startswith(f"/var/lib/pdinfra/pd/ranktables/{instance(*engine)}-")
        assert text == by_hand.read_text()
    ranktable("lint", "--format", "vllm-ascend", str(by_hand))
    again = plan()
    assert again.code == 0, again.text


@pytest.mark.usefixtures("service")
def test_a_second_decode_host_joins_and_what_runs_reads_of_it_without_a_restart(
    image: str, tmp_path: Path
) -> None:
    before = identities(3)
    tables = {engine: read_by(*engine) for engine in (PREFILL, FIRST)}
    put_into_groups("node3", "decode")
    joined = up()
    assert proven(joined) == {(instance(*PREFILL), instance(*each)) for each in (FIRST, SECOND)}
    after = identities(3)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {instance(*SECOND)}
    by_hand = written_by_hand(tmp_path, image, PREFILL, FIRST, SECOND).read_text()
    for engine, (path, text) in tables.items():
        assert text != by_hand
        assert read_by(*engine) == (path, by_hand)
    assert read_by(*SECOND)[1] == by_hand


@pytest.mark.usefixtures("service")
def test_a_card_with_another_address_touches_its_own_instance_alone() -> None:
    host = SECOND[0]
    old = next(
        word.removeprefix("ipaddr:")
        for word in on_host(host, "hccn_tool", "-i", "1", "-ip", "-g").out.split()
        if word.startswith("ipaddr:")
    )
    new = f"{old.rpartition('.')[0]}.77"
    assert readdress(host, new).code == 0
    try:
        changed = plan()
    finally:
        readdress(host, old)
    assert changed.code == 2, changed.text
    rows = [c for c in changed.json["changes"] if c["action"] != "keep"]
    touched = {(c["id"], c["action"]) for c in rows if c["kind"] != "ranktable"}
    assert touched == {(instance(*SECOND), "replace")}
    said = {c["reason"] for c in rows if c["kind"] == "ranktable" and c["host"] == host}
    assert any(f"device 1 of {host} has {new} now, not {old}" in reason for reason in said), said
    again = plan()
    assert again.code == 0, again.text


def readdress(host: str, ip: str) -> Result:
    """Give a host's device 1 an address."""
    setting = ("-ip", "-s", "address", ip, "netmask", "255.255.0.0")
    return on_host(host, "hccn_tool", "-i", "1", *setting)
