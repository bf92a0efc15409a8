"""What Ray says of itself: `ray status` of Ray 2.60, captured, and Serve's REST API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.model.facts import ReplicaFact
from pdinfra.reading.ray import cluster_seen, serve_fact

STATUS = """\
======== Autoscaler status: 2026-11-22 11:21:46.957720 ========
Node status
---------------------------------------------------------------
Active:
 (no active nodes)
Idle:
 1 node_954f75d81c49346b3d7d3c8299c9ef136fc441378634374dbb9b68b6
 1 node_c2384d2a5369ae42fd6c052141d496669b3d1f7759cf5676b330e110
 1 node_81421803879e1ff08a80c633a9548ca89377d68c202c574a5ae9f416
Pending:
 (no pending nodes)
Recent failures:
 node_d1ca27f486cf59f301a305015240f172f2bbd5693eb3adc0df56d5cf: NodeTerminated (instance_id: )
 node_af681ce40e1c02ce62f9886cf608aead75c779ce2e41c1c3a06170c5: NodeTerminated (instance_id: )

Resources
---------------------------------------------------------------
Total Usage:
 0.0/3.0 CPU
 0B/68.49GiB memory
 0B/1.40GiB object_store_memory
 0.0/1.0 pd_entry
 0.0/3.0 pd_mixed

From request_resources:
 (none)
Pending Demands:
 (no resource demands)
"""
"""Of three nodes with nothing to do, autoscaler v2."""
IDLE = STATUS[STATUS.index("Idle:") : STATUS.index("Pending:")]
BUSY = (
    STATUS.replace(IDLE, "")
    .replace(" (no active nodes)\n", IDLE.removeprefix("Idle:\n"))
    .replace(" 0.0/3.0 CPU\n", " 3.0/3.0 CPU (3.0 used of 3.0 reserved in placement groups)\n")
    .replace(" 0B/1.40", " 1.5MiB/1.40")
    .replace(
        " (no resource demands)\n", " {'CPU': 1.0, 'pd_mixed': 1.0}: 9+ pending tasks/actors\n"
    )
)
"""The same as autoscaler v1 has it, at work."""


@pytest.mark.parametrize("text", [STATUS, BUSY], ids=["v2", "v1"])
def test_nodes_and_what_they_have_are_counted(text: str) -> None:
    found = cluster_seen(text)
    assert found is not None
    assert found.nodes == 3
    assert found.resources == {"CPU": 3.0, "pd_entry": 1.0, "pd_mixed": 3.0}


def test_nodes_at_work_and_idle_ones_are_both_in_the_cluster() -> None:
    first = IDLE.splitlines(keepends=True)[1]
    mixed = STATUS.replace(first, "").replace(" (no active nodes)\n", first)
    found = cluster_seen(mixed)
    assert found is not None
    assert found.nodes == 3


def test_pending_and_failed_nodes_are_not_in_the_cluster() -> None:
    pending = STATUS.replace(" (no pending nodes)", " 1 node_00").replace(IDLE, "Idle:\n")
    found = cluster_seen(pending)
    assert found is not None
    assert found.nodes == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ConnectionError: Could not find any running Ray instance.",
        "Failed to connect to GCS at address 192.0.2.1:6379 within 5 seconds.",
    ],
)
def test_a_head_that_does_not_answer_is_no_cluster(text: str) -> None:
    assert cluster_seen(text) is None


REPLICAS = [
    {
        "node_id": "1b73",
        "node_ip": "172.31.0.11",
        "actor_id": "cea6",
        "replica_id": "c2eu4zc1",
        "state": "RUNNING",
        "pid": 521,
    },
    {"node_ip": None, "replica_id": "x", "state": "STARTING", "pid": None},
]
NOTHING: dict[str, Any] = {
    "controller_info": {},
    "proxies": {},
    "applications": {},
    "target_capacity": None,
}
APPLICATION: dict[str, Any] = {
    "name": "pd",
    "route_prefix": "/",
    "status": "UNHEALTHY",
    "message": "The deployments ['LLMServer:engine'] are UNHEALTHY.",
    "deployed_app_config": {"name": "pd", "import_path": "ray.serve.llm:build_openai_app"},
    "deployments": {
        "LLMServer:engine": {
            "name": "LLMServer:engine",
            "status": "HEALTHY",
            "target_num_replicas": 2,
            "replicas": REPLICAS,
        },
        "OpenAiIngress": {"name": "OpenAiIngress", "status": "HEALTHY", "replicas": []},
    },
}
DOCUMENT = {
    **NOTHING,
    "proxy_location": "HeadOnly",
    "http_options": {"host": "172.31.0.11", "port": 8000, "root_path": ""},
    "applications": {"pd": APPLICATION},
}


def test_serve_says_which_replicas_are_where() -> None:
    found = serve_fact(json.dumps(DOCUMENT))
    assert found is not None
    assert found.statuses == {"pd": "UNHEALTHY"}
    assert found.messages == {"pd": "The deployments ['LLMServer:engine'] are UNHEALTHY."}
    engine = "LLMServer:engine"
    assert found.replicas == (
        ReplicaFact(
            id="c2eu4zc1", deployment=engine, address="172.31.0.11", state="RUNNING", pid=521
        ),
        ReplicaFact(id="x", deployment=engine, address="", state="STARTING", pid=0),
    )


def test_serve_before_anything_was_deployed_has_nothing() -> None:
    found = serve_fact(json.dumps(NOTHING))
    assert found is not None
    assert (found.statuses, found.replicas) == ({}, ())


def test_an_application_that_could_not_be_built_has_no_deployments_and_a_reason() -> None:
    failed = {**APPLICATION, "status": "DEPLOY_FAILED", "message": "No module", "deployments": {}}
    found = serve_fact(json.dumps({**DOCUMENT, "applications": {"pd": failed}}))
    assert found is not None
    assert (found.statuses, found.messages) == ({"pd": "DEPLOY_FAILED"}, {"pd": "No module"})


@pytest.mark.parametrize(
    "text",
    [None, "", "<html>", "[]", "{}", "3", '{"applications": null}', '{"applications": {"pd": 1}}'],
)
def test_an_answer_that_makes_no_sense_is_none(text: str | None) -> None:
    assert serve_fact(text) is None
