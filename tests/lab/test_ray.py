"""One model on a Ray cluster over hosts: real Ray, real Ray Serve, real vLLM; nothing is simulated.

The tests build on each other, in their order: each begins with the cluster that the last one left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pdinfra.model.facts import ReplicaFact
from pdinfra.reading.ray import cluster_seen, serve_fact
from tests.commands import Result, pdinfra, wait_until
from tests.lab.fleet import (
    HOSTS,
    INVENTORY,
    Identities,
    address,
    change_variables,
    identities,
    lab,
    on_host,
    put_into_groups,
    up,
)
from tests.load import Load

pytestmark = pytest.mark.lab

MODEL = "tiny-qwen2"
DASHBOARD = "http://127.0.0.1:8265/api/serve/applications/"
HEALS_SECONDS = 300
"""A replica starts in about a minute on two cores; several at once share them."""


@pytest.fixture(scope="module", autouse=True)
def cluster(fleet: None) -> Iterator[None]:
    """A head with a replica on node1, and a second one on node2."""
    before = HOSTS.read_text()
    pdinfra("down", inventory=INVENTORY)
    put_into_groups("node1", "router", "mixed")
    put_into_groups("node2", "mixed")
    put_into_groups("node3")
    change_variables(
        pd_stack="ray",
        pd_connector=None,
        pd_kv_path=None,
        pd_max_model_len=2048,
        pd_ray_object_store_gib=0.5,
    )
    made = up()
    assert made.code == 0, made.text
    assert made.json["verify"]["ok"], made.text
    yield
    pdinfra("down", inventory=INVENTORY)
    change_variables(pd_stack=None, pd_max_model_len=None, pd_ray_object_store_gib=None)
    HOSTS.write_text(before)


def entry() -> str:
    """Return the URL that clients use."""
    return f"http://{address('node1')}:8000"


def counted() -> tuple[int, dict[str, float]]:
    """Return nodes and resources by `ray status` in the head's container."""
    gcs = f"{address('node1')}:6379"
    said = on_host("node1", "docker", "exec", "pd-pd-ray-node1", "ray", "status", "--address", gcs)
    seen = cluster_seen(said.out)
    assert seen is not None, said.text
    return seen.nodes, seen.resources


def replicas() -> list[ReplicaFact]:
    """Return the engines that Ray Serve has."""
    said = serve_fact(on_host("node1", "curl", "-s", "-m", "4", DASHBOARD).out)
    return [r for r in said.replicas if r.deployment != "OpenAiIngress"] if said else []


def running() -> set[tuple[str, int]]:
    """Return address and process of each engine that answers; Ray hides a restart, a pid not."""
    return {(each.address, each.pid) for each in replicas() if each.state == "RUNNING"}


def members() -> dict[str, bool]:
    """Return what `status` says of each instance and node."""
    found = pdinfra("status", "--json", inventory=INVENTORY).json
    return {row["id"]: row["ready"] for row in (*found["instances"], *found["nodes"])}


def planned() -> Result:
    """Compare."""
    return pdinfra("plan", "--json", "--detailed-exitcode", inventory=INVENTORY)


def containers(there: Identities) -> Identities:
    """Return the nodes alone: the keeper has the number of replicas, and is replaced with it."""
    return {name: each for name, each in there.items() if name.startswith("ray-")}


def test_ray_counts_the_nodes_and_resources_of_the_plan() -> None:
    nodes, resources = counted()
    assert nodes == 2
    assert resources == {
        "CPU": 2,
        "pd_entry": 1,
        "pd_host_node1": 1,
        "pd_host_node2": 1,
        "pd_mixed": 2,
    }
    ids = ("mixed-node1-0", "mixed-node2-0", "ray-node1", "ray-node2")
    assert members() == dict.fromkeys(ids, True)


def test_a_second_run_touches_nothing() -> None:
    before, engines = identities(2), running()
    again = up()
    assert again.code == 0, again.text
    assert {c["action"] for c in again.json["changes"]} == {"keep"}
    assert (identities(2), running()) == (before, engines)


def test_a_third_host_joins_and_nothing_else_starts_anew() -> None:
    before, engines = containers(identities(2)), running()
    put_into_groups("node3", "mixed")
    with Load(entry(), MODEL, pause=1.0) as load:
        made = up()
    assert made.code == 0, made.text
    assert made.json["verify"]["ok"], made.text
    assert load.answered
    assert not load.failed
    assert containers(identities(2)) == before
    assert engines < running()
    assert len(running()) == 3
    nodes, resources = counted()
    assert (nodes, resources["pd_mixed"]) == (3, 3)


def test_requests_are_spread_over_all_hosts() -> None:
    proof = pdinfra("verify", "--json", inventory=INVENTORY)
    assert proof.code == 0, proof.text
    assert proof.json["completion"]["completion_tokens"] > 0


def test_a_killed_replica_comes_back_by_itself_and_the_others_answer() -> None:
    before = running()
    with Load(entry(), MODEL, pause=1.0) as load:
        killed = on_host(
            "node2", "docker", "exec", "pd-pd-ray-node2", "pkill", "-9", "-f", "VLLM::Eng"
        )
        assert killed.code == 0, killed.text
        wait_until("the replica is missed", 60, lambda: len(running() & before) == 2)
        wait_until("the replica is back", HEALS_SECONDS, lambda: len(running()) == 3)
    assert load.answered > len(load.failed)
    assert planned().code == 0, planned().text


def test_a_host_that_is_cut_off_joins_again_by_itself_and_the_others_answer() -> None:
    """Whether Ray places its replica again is Ray's business: it did in 5 of 6 trials."""
    before = {(host, pid) for host, pid in running() if host != address("node3")}
    assert len(before) == 2
    with Load(entry(), MODEL, pause=1.0) as load:
        assert lab("fault", "on", "node3", "cut").code == 0
        wait_until("the host is missed", 120, lambda: counted()[0] == 2)
        assert lab("fault", "off", "node3", "cut").code == 0
        wait_until("the host is back", 120, lambda: counted()[0] == 3)
    assert load.answered > len(load.failed)
    assert before <= running()


def test_a_head_that_starts_again_has_its_nodes_and_places_all_replicas() -> None:
    there = containers(identities(3))
    restarted = on_host("node1", "docker", "exec", "pd-pd-ray-node1", "pkill", "-9", "gcs_server")
    assert restarted.code == 0, restarted.text
    wait_until("the head is gone", 60, lambda: not replicas())
    wait_until("all replicas are back", HEALS_SECONDS, lambda: len(running()) == 3)
    wait_until("all is as planned", 120, lambda: planned().code == 0)
    proof = pdinfra("verify", "--json", inventory=INVENTORY)
    assert proof.code == 0, proof.text
    now = containers(identities(3))
    assert {name for name in now if now[name] != there[name]} == {"ray-node1"}
    assert now["ray-node1"][0] == there["ray-node1"][0]


def test_a_lost_head_takes_its_nodes_along_and_prefill_hands_kv_over_to_decode() -> None:
    assert on_host("node1", "docker", "rm", "-f", "pd-pd-ray-node1").code == 0
    actions: dict[str, str] = {c["id"]: c["action"] for c in planned().json["changes"]}
    wanted = {"ray-node1": "create", "ray-node2": "replace", "ray-node3": "replace"}
    assert {name: actions[name] for name in wanted} == wanted
    put_into_groups("node1", "router")
    put_into_groups("node2", "prefill")
    put_into_groups("node3", "decode")
    made = up()
    assert made.code == 0, made.text
    assert counted()[0] == 3
    pairs: list[dict[str, Any]] = made.json["verify"]["pairs"]
    assert [(pair["prefill"], pair["decode"]) for pair in pairs] == [
        ("prefill-node2-0", "decode-node3-0")
    ]
    assert pairs[0]["external_tokens"] > 0
    assert planned().code == 0


def test_down_leaves_nothing() -> None:
    gone = pdinfra("down", inventory=INVENTORY)
    assert gone.code == 0, gone.text
    assert identities(3) == {}
