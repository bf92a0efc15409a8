"""Stack ascendcloud across hosts: real containers, tables and engines.

NPUs, driver tools and the vendor's start_servers.sh are SIMULATED (tests/sim); below it runs the
real vLLM on the CPU, so that answers are real and KV really moves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from pdinfra.ranktable.findings import Known
from pdinfra.ranktable.lint import lint
from pdinfra.ranktable.read import Table, read
from tests.commands import Result, pdinfra, playbook, wait_until
from tests.lab.ascendcloud_sim import VARIABLES as SERVICE
from tests.lab.ascendcloud_sim import image
from tests.lab.fleet import (
    HOSTS,
    INVENTORY,
    VARIABLES,
    address,
    change_variables,
    identities,
    lab,
    on_host,
    publish,
    put_into_groups,
    up,
)
from tests.load import Load

pytestmark = pytest.mark.lab

TABLES = "/var/lib/pdinfra/pd/ranktables"
FIRST = {"router", "prefill-node1-0", "decode-node1-0"}
ALL = FIRST | {"prefill-node2-0", "decode-node2-0"}
CONTROL = {"/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"}
CARDS = {
    "prefill": {"/dev/davinci0", "/dev/davinci1"},
    "decode": {"/dev/davinci2", "/dev/davinci3"},
}
Changes = dict[tuple[str, str], dict[str, Any]]


def inspected(host: str, name: str) -> dict[str, Any]:
    """Return a container's inspect document."""
    found: list[dict[str, Any]] = json.loads(
        on_host(host, "docker", "inspect", f"pd-pd-{name}").out
    )
    return found[0]


def changes(result: Result) -> Changes:
    """Return a plan's changes, but for what is kept, by kind and id."""
    rows = result.json["changes"]
    return {(c["kind"], c["id"]): c for c in rows if c["action"] != "keep"}


def tables(host: str) -> list[Table]:
    """Return the rank tables that a host has."""
    paths = on_host(host, "find", TABLES, "-name", "*.json").out.split()
    return [read(path, on_host(host, "cat", path).out) for path in sorted(paths)]


def checks(name: str) -> list[dict[str, Any]]:
    """Return what the doctor says under one name and is not well."""
    found = pdinfra("doctor", "--json", inventory=INVENTORY).json["checks"]
    return [check for check in found if check["id"] == name and check["status"] != "ok"]


def run_by_hand(host: str, name: str, **env: str) -> None:
    """Put a container in the place of another one, as an operator would, with other variables."""
    old = inspected(host, name)
    config, given = old["Config"], old["HostConfig"]
    variables = dict(item.partition("=")[::2] for item in config["Env"]) | env
    words = ["docker", "run", "--detach", "--init", "--network", "host", "--user", config["User"]]
    words += ["--name", f"pd-pd-{name}", "--restart", "unless-stopped", "--shm-size", "1g"]
    words += [f"--env={key}={value}" for key, value in variables.items()]
    words += [f"--label={key}={value}" for key, value in config["Labels"].items()]
    words += [f"--device={device['PathOnHost']}" for device in given["Devices"]]
    for mount in given["Mounts"]:
        end = ",readonly" if mount.get("ReadOnly") else ""
        words.append(f"--mount=type=bind,src={mount['Source']},dst={mount['Target']}{end}")
    assert on_host(host, "docker", "rm", "--force", f"pd-pd-{name}").code == 0
    done = on_host(host, *words, config["Image"], *config["Cmd"])
    assert done.code == 0, done.text


@pytest.fixture(scope="module")
def service(fleet: None) -> Iterator[Result]:
    """One prefill and one decode on node1, the scheduler beside them."""
    before = {path: path.read_text() for path in (HOSTS, VARIABLES)}
    put_into_groups("node1", "router", "prefill", "decode")
    put_into_groups("node2")
    put_into_groups("node3")
    client = docker.from_env(timeout=600)
    pulled = publish(client, image(client))
    change_variables(pd_image=pulled, **SERVICE)
    yield up()
    down = pdinfra("down", inventory=INVENTORY)
    for path, text in before.items():
        path.write_text(text)
    assert down.code == 0, down.text


def test_the_guides_first_deployment_comes_up_in_order_and_is_proven(service: Result) -> None:
    assert service.code == 0, service.text
    proof = service.json["verify"]
    (pair,) = proof["pairs"]
    assert (pair["prefill"], pair["decode"]) == ("prefill-node1-0", "decode-node1-0")
    assert pair["external_tokens"] > 0
    assert proof["completion"]["text"].strip()
    # The bundle's scheduler asks every member when it starts, and ends if one does not answer.
    router = inspected("node1", "router")
    assert router["RestartCount"] == 0
    for name in FIRST - {"router"}:
        assert router["State"]["StartedAt"] > inspected("node1", name)["State"]["StartedAt"]


@pytest.mark.usefixtures("service")
def test_each_container_has_exactly_its_cards_and_the_guides_mounts() -> None:
    for name in FIRST:
        found = inspected("node1", name)
        devices = {device["PathOnHost"] for device in found["HostConfig"]["Devices"]}
        assert devices == CONTROL | CARDS.get(name.partition("-")[0], set())
        mounts = {m["Target"]: m["Source"] for m in found["HostConfig"]["Mounts"]}
        model = next(target for target in mounts if "/models/" in target)
        assert mounts == {
            "/etc/localtime": "/etc/localtime",
            "/usr/local/Ascend/driver": "/usr/local/Ascend/driver",
            "/etc/ascend_install.info": "/etc/ascend_install.info",
            "/usr/slog": "/var/log/npu",
            "/usr/local/bin/npu-smi": "/usr/local/bin/npu-smi",
            "/sys/fs/cgroup": "/sys/fs/cgroup",
            model: model,
            TABLES: TABLES,
        }
        assert found["Config"]["User"] == "ma-user"
        assert not found["HostConfig"]["Privileged"]


@pytest.mark.usefixtures("service")
def test_scaling_out_says_what_restarts_and_all_hosts_get_one_table() -> None:
    put_into_groups("node2", "prefill", "decode")
    planned = changes(pdinfra("plan", "--json", inventory=INVENTORY))
    assert {key for key in planned if key[0] in ("instance", "router")} == {
        ("router" if name == "router" else "instance", name) for name in ALL
    }
    made = [
        c for (kind, _), c in planned.items() if kind == "ranktable" and c["action"] == "create"
    ]
    for part in ("with decode", "with prefill", "restarts ", *FIRST):
        assert all(part in change["reason"] for change in made)
    assert "the service pauses" in planned["instance", "prefill-node1-0"]["reason"]
    assert "reads another rank table" in planned["router", "router"]["reason"]
    grown = up()
    assert grown.code == 0, grown.text
    pairs = {(p["prefill"], p["decode"]) for p in grown.json["verify"]["pairs"] if p["ok"]}
    notes = " ".join(grown.json["verify"]["notes"])
    missing = {
        (p, d)
        for p in ("prefill-node1-0", "prefill-node2-0")
        for d in ("decode-node1-0", "decode-node2-0")
    } - pairs
    assert all(f"{p} → {d}" in notes for p, d in missing)
    assert len(pairs) > 2
    texts = {
        host: next(table.text for table in tables(host) if "global" in table.file)
        for host in ("node1", "node2")
    }
    assert len(set(texts.values())) == 1
    for host, text in texts.items():
        mine = tables(host)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        assert {table.file.split("/")[-2] for table in mine} == {digest}
        addresses = frozenset((address("node1"), address("node2")))
        assert lint(mine, Known(format="ascendcloud", hosts=addresses)) == []
    assert "NODE_PORTS=8088,8088,8089,8089" in inspected("node1", "router")["Config"]["Env"]


@pytest.mark.usefixtures("service")
def test_a_second_run_changes_nothing() -> None:
    before = identities(2)
    again = playbook("site.yml", inventory=INVENTORY)
    assert again.code == 0, again.text
    assert identities(2) == before
    assert before.keys() == ALL
    assert pdinfra("status", inventory=INVENTORY).code == 0


@pytest.mark.usefixtures("service")
def test_swapped_ports_are_refused_by_the_bundle_seen_by_plan_and_mended() -> None:
    before = identities(2)
    run_by_hand("node1", "router", NODE_PORTS="8089,8088,8088,8089")

    def log() -> str:
        return on_host("node1", "docker", "logs", "pd-pd-router").text

    wait_until("the refusal", 30, lambda: "is not in the order of the global table" in log())
    planned = changes(pdinfra("plan", "--json", inventory=INVENTORY))
    assert planned.keys() == {("router", "router")}
    wanted = "env NODE_PORTS: 8089,8088,8088,8089 → 8088,8088,8089,8089"
    assert wanted in planned["router", "router"]["reason"]
    mended = up()
    assert mended.code == 0, mended.text
    assert {name for name, was in before.items() if identities(2)[name] != was} == {"router"}


@pytest.mark.usefixtures("service")
def test_an_edited_table_is_found_and_made_again_without_a_restart() -> None:
    before = identities(2)
    path = next(t.file for t in tables("node2") if "global" in t.file)
    edited = on_host("node2", "sed", "-i", 's/10.20.2.1"/10.20.2.99"/', path)
    assert edited.code == 0, edited.text
    assert {c["host"] for c in checks("rank-table")} == {"node2"}
    assert checks("rank-table-copies") != []
    planned = changes(pdinfra("plan", "--json", inventory=INVENTORY))
    (change,) = planned.values()
    assert (change["kind"], change["host"], change["action"]) == ("ranktable", "node2", "replace")
    assert up().code == 0
    assert checks("rank-table") == checks("rank-table-copies") == []
    assert identities(2) == before


@pytest.mark.usefixtures("service")
def test_an_unhealthy_card_is_told_and_stops_the_run_before_anything_starts() -> None:
    before = identities(2)
    assert lab("fault", "on", "node2", "unhealthy", "--device", "1").code == 0
    try:
        (check,) = checks("npu-health")
        assert (check["host"], check["status"]) == ("node2", "fail")
        plan = pdinfra("plan", inventory=INVENTORY)
        assert plan.code == 0
        assert "npu-health" in plan.err
        refused = up()
        assert refused.code == 1
        assert "npu-health" in refused.text
        assert identities(2) == before
    finally:
        assert lab("fault", "off", "node2", "unhealthy", "--device", "1").code == 0


@pytest.mark.usefixtures("service")
def test_a_cards_new_address_rolls_the_instances_while_the_service_answers() -> None:
    setting = ("-ip", "-s", "address", "10.20.2.77", "netmask", "255.255.0.0")
    moved = on_host("node2", "hccn_tool", "-i", "1", *setting)
    assert moved.code == 0, moved.text
    (stale, *_) = checks("rank-table")
    assert "stale" in stale["found"]
    assert "10.20.2.77" in stale["expected"]
    planned = changes(pdinfra("plan", "--json", inventory=INVENTORY))
    made = [
        c for (kind, _), c in planned.items() if kind == "ranktable" and c["action"] == "create"
    ]
    assert made
    for change in made:
        assert "device 1 of node2 has 10.20.2.77 now, not 10.20.2.2" in change["reason"]
        assert all(name in change["reason"] for name in ALL)
    said = [planned["instance", name]["reason"] for name in ALL - {"router"}]
    assert sum("after the others are back" in reason for reason in said) == 2
    before = identities(2)
    url = f"http://{address('node1')}:9000"
    with Load(url, "tiny-qwen2", threads=1, pause=1.0) as load:
        rolled = up()
    assert rolled.code == 0, rolled.text
    now = identities(2)
    assert all(now[name] != before[name] for name in ALL)
    # The entry itself is away for as long as one scheduler ends and the next one starts.
    assert load.answered > 20
    assert len(load.failed) <= 10, load.failed
