"""openYuanrong's full mode across hosts: SIMULATED `yr` in both dialects, scripts and NPUs.

Real are the hosts, Docker, the image build with git, pip and a patch, etcd, the data system's
workers and the keys in them. There is no model: completions say SIMULATOR.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from pdinfra.lab.names import Lab
from tests.commands import ROOT, Result, command, lab_name, pdinfra, wait_until
from tests.lab import yuanrong_sim as sim

pytestmark = pytest.mark.lab

LAB = lab_name("yrf")
INVENTORY = ROOT / "inventories" / f"lab-{LAB}"
VARIABLES = INVENTORY / "group_vars" / "all.yml"
MASTER, AGENT = ("node1", "pd-pd-yr-node1"), ("node2", "pd-pd-yr-node2")
# The brackets: the shell that looks for the words has them in its own command line.
KILL_DAEMON = (
    "for p in /proc/[0-9]*; do"
    " grep -qz 'daemo[n]' $p/cmdline && grep -qz 'simulator.jso[n]' $p/cmdline"
    " && kill -9 ${p#/proc/}; done"
)
KEEP = {("master", "keep"), ("agent", "keep"), ("deployment", "keep")}
SERVICE = {
    "pd_stack": "yuanrong",
    "pd_connector": "YuanRongConnector",
    "pd_accelerator": "ascend",
    "pd_tensor_parallel_size": 2,
    "pd_shm_gib": 1,
    "pd_datasystem_gib": 0.5,
    # Two cores for two hosts: a busy worker may be late.
    "pd_datasystem_timeout_seconds": 60,
}


def lab(*words: str) -> Result:
    return command("python", "-m", "pdinfra", "lab", *words, "--name", LAB)


def on(node: tuple[str, str], *words: str) -> Result:
    """Run a command in a node's container."""
    host, container = node
    return command("docker", "exec", f"pdinfra-lab-{LAB}-{host}", "docker", *words, container)


def inside(node: tuple[str, str], *words: str) -> Result:
    host, container = node
    machine = f"pdinfra-lab-{LAB}-{host}"
    return command("docker", "exec", machine, "docker", "exec", container, *words)


def identity(node: tuple[str, str]) -> tuple[str, str]:
    """Return what a restart or a replacement would change."""
    found = json.loads(on(node, "inspect").out or "[]")
    return (found[0]["Id"], found[0]["State"]["StartedAt"]) if found else ("", "")


def settings(node: tuple[str, str]) -> str:
    """Return what the node was started with."""
    words: list[str] = json.loads(on(node, "inspect").out)[0]["Config"]["Cmd"]
    return words[words.index("--settings") + 1]


def counted() -> str:
    """Return how many agents `yr status` counted last, as the master's host has it noted."""
    return inside(MASTER, "cat", "/var/lib/pdinfra/pd/yr/agents").out.strip()


def up(**variables: Any) -> Result:
    known = {**yaml.safe_load(VARIABLES.read_text()), **variables}
    VARIABLES.write_text(yaml.safe_dump(known))
    return pdinfra("up", "--yes", "--json", inventory=INVENTORY)


def made(result: Result) -> set[tuple[str, str]]:
    return {(c["kind"], c["action"]) for c in result.json["changes"]}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """Two hosts with NPUs, and the service in the newer dialect."""
    brought: Path = tmp_path_factory.mktemp("operator") / "tools"
    lab("down")
    shutil.rmtree(Lab(LAB).inventory, ignore_errors=True)
    hosts = lab("up", "--hosts", "2", "--npus", "8")
    assert hosts.code == 0, hosts.text
    with closing(docker.from_env(timeout=300)) as client:
        image = sim.image(client)
    yield up(**SERVICE, **sim.brought(brought), pd_image=image)
    lab("down")
    shutil.rmtree(Lab(LAB).inventory, ignore_errors=True)


def test_up_builds_the_image_starts_all_nodes_deploys_and_proves(service: Result) -> None:
    assert service.code == 0, service.text
    assert {("image", "create"), ("master", "create"), ("deployment", "create")} <= made(service)
    proof = service.json["verify"]
    assert proof["ok"] is True
    assert proof["completion"]["text"] == "SIMULATOR"
    assert {(r["writer"], r["reader"]) for r in proof["store"]["reads"] if r["ok"]} == {
        (f"yr-{one}", f"yr-{other}") for one in ("node1", "node2") for other in ("node1", "node2")
    }
    assert proof["pairs"] == []
    assert "not proven" in proof["notes"][0]
    patched = inside(MASTER, "cat", "/vllm-workspace/vllm-ascend/connectors.py").out
    assert "YuanRongConnector" in patched


@pytest.mark.usefixtures("service")
def test_status_shows_nodes_agents_and_the_entry() -> None:
    status = pdinfra("status", "--json", inventory=INVENTORY)
    assert status.code == 0, status.text
    assert [(s["id"], s["role"], s["ready"]) for s in status.json["stores"]] == [
        ("yr-node1", "yr-master", True),
        ("yr-node2", "yr-agent", True),
    ]
    assert status.json["agents"] == 2
    assert status.json["router"]["ready"] is True


@pytest.mark.usefixtures("service")
def test_a_second_start_and_a_second_deployment_change_nothing() -> None:
    count = "cat /proc/[0-9]*/comm | grep -c '^datasystem_work'"
    assert inside(MASTER, "sh", "-c", count).out == "2\n", "the data system's master and a worker"
    again = inside(MASTER, "pd-yuanrong", "start", "--settings", settings(MASTER))
    assert again.out.startswith("ok: openYuanrong runs on"), again.text
    refused = inside(AGENT, "pd-yuanrong", "agents", "--settings", settings(AGENT))
    assert "agents are counted on the master" in refused.out
    assert inside(MASTER, "sh", "-c", count).out == "2\n"
    assert pdinfra("plan", "--detailed-exitcode", inventory=INVENTORY).code == 0


@pytest.mark.usefixtures("service")
def test_a_daemon_that_is_killed_is_started_by_docker_and_a_lost_agent_is_noticed() -> None:
    before = identity(AGENT)
    inside(AGENT, "sh", "-c", KILL_DAEMON)
    wait_until("Docker starts the node anew", 60, lambda: identity(AGENT)[1] != before[1])
    assert identity(AGENT)[0] == before[0]
    log = on(AGENT, "logs").text
    assert "is dead: its daemon is gone" in log
    on(AGENT, "stop")
    wait_until("the master counts itself alone", 60, lambda: counted() == "1")
    status = pdinfra("status", "--json", inventory=INVENTORY)
    assert (status.code, status.json["healthy"], status.json["agents"]) == (1, False, 1)


@pytest.mark.usefixtures("service")
def test_the_other_dialect_replaces_the_nodes_and_mends_what_was_lost() -> None:
    other = up(pd_env={sim.DIALECT: "flags"})
    assert other.code == 0, other.text
    assert made(other) == {(kind, "replace") for kind, _ in KEEP}
    assert "(flags)" in on(MASTER, "logs").out
    before = identity(MASTER), identity(AGENT)
    again = up()
    assert again.code == 0, again.text
    assert made(again) == KEEP
    assert (identity(MASTER), identity(AGENT)) == before


@pytest.mark.usefixtures("service")
def test_down_leaves_nothing_behind() -> None:
    down = pdinfra("down", "--json", inventory=INVENTORY)
    assert down.code == 0, down.text
    assert made(down) == {("host", "remove"), *((kind, "remove") for kind, _ in KEEP)}
    for node in (MASTER, AGENT):
        assert identity(node) == ("", "")
