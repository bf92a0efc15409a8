"""Where openYuanrong's data system is, and what its containers are started with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.planning.changes import host_changes
from tests.unit.builders import (
    AUTHORITY,
    NOW,
    YUANRONG,
    converged,
    lines,
    option,
    plan,
    problems,
    specs,
)

THREE = {"router": ["a"], "prefill": ["b"], "decode": ["c"]}


def flags(name: str, **variables: object) -> dict[str, str]:
    """Return a worker's flags by name."""
    command = specs(plan(THREE, {**YUANRONG, **variables}))[name].command
    return dict(word.removeprefix("--").split("=", 1) for word in command[1:])


def test_every_host_with_engines_has_a_worker_and_the_routers_host_etcd() -> None:
    made = plan(THREE, YUANRONG)
    assert made.store is not None
    assert [w.host for w in made.store.workers] == ["b", "c"]
    assert [m.host for m in made.store.etcd] == ["a"]
    assert list(specs(made)) == [
        "etcd-a", "router", "datasystem-b", "prefill-b-0", "datasystem-c", "decode-c-0",
    ]  # fmt: skip


def test_etcd_is_where_the_group_says_and_its_members_know_each_other() -> None:
    made = plan({**THREE, "etcd": ["a", "b", "c"]}, YUANRONG)
    cluster = {option(specs(made)[f"etcd-{h}"], "--initial-cluster") for h in "abc"}
    assert len(cluster) == 1
    assert cluster.pop().count("https://") == 3


def test_etcd_talks_to_nobody_without_a_certificate() -> None:
    command = specs(plan(THREE, YUANRONG))["etcd-a"].command
    assert {"--client-cert-auth", "--peer-client-cert-auth"} <= set(command)
    assert not [word for word in command if "http://" in word]


def test_an_even_etcd_and_a_group_of_another_stack() -> None:
    found = problems({**THREE, "etcd": ["a", "b"]}, YUANRONG)
    assert "inventory: group etcd: 2 hosts in it" in lines(found)
    # Somebody else's etcd, with its own hosts: none of pdinfra's business.
    assert plan({**THREE, "etcd": ["x", "y"]}).host("x").spare


def test_no_port_of_a_worker_is_left_to_chance_and_no_state_in_tmp() -> None:
    found = flags("datasystem-b", pd_datasystem_port=31600, pd_datasystem_timeout_seconds=30)
    assert found["worker_address"].endswith(":31600")
    assert found["node_timeout_s"] == "30"
    assert int(found["heartbeat_interval_ms"]) * 5 < 30_000
    assert not [value for value in found.values() if value.startswith("/tmp")]


def test_a_workers_memory_is_bounded_above_its_data() -> None:
    spec = specs(plan(THREE, {**YUANRONG, "pd_datasystem_gib": 2}))["datasystem-b"]
    assert "--shared_memory_size_mb=2048" in spec.command
    assert 2 * 1024**3 < spec.memory < 4 * 1024**3


def test_an_engine_asks_the_worker_of_its_host_and_computes_what_is_missing() -> None:
    made = plan(THREE, YUANRONG)
    for name, role in (("prefill-b-0", "kv_producer"), ("decode-c-0", "kv_consumer")):
        config = json.loads(option(specs(made)[name], "--kv-transfer-config"))
        host = made.host(name.split("-")[1])
        assert config["kv_role"] == role
        assert config["kv_load_failure_policy"] == "recompute"
        assert config["kv_connector_extra_config"] == {"worker": f"{host.address}:31501"}
        assert option(specs(made)[name], "--block-size") == "32"
    own = plan(THREE, {**YUANRONG, "pd_block_size": 64})
    assert option(specs(own)["decode-c-0"], "--block-size") == "64"


def test_weights_from_the_data_system_where_there_is_one() -> None:
    made = specs(plan(THREE, {**YUANRONG, "pd_decode": {"load_format": "yuanrong"}}))
    assert option(made["decode-c-0"], "--load-format") == "yuanrong"
    loader = json.loads(option(made["decode-c-0"], "--model-loader-extra-config"))
    config = json.loads(option(made["decode-c-0"], "--kv-transfer-config"))
    assert loader == {"worker": config["kv_connector_extra_config"]["worker"]}
    assert "--load-format" not in made["prefill-b-0"].command
    found = lines(problems(THREE, {"pd_load_format": "yuanrong"}))
    assert "set pd_stack to yuanrong" in found


def test_two_services_on_one_machine_need_two_ports() -> None:
    found = problems(THREE, {**YUANRONG, "pd_datasystem_port": 8100, "pd_prefill": {"port": 8100}})
    assert "port 8100" in lines(found)


def test_a_connector_of_another_stack_is_refused_with_those_that_fit() -> None:
    found = lines(problems(THREE, {"pd_stack": "yuanrong"}))
    assert "NixlConnector" in found
    assert "use one of: YuanrongStoreConnector" in found
    assert "NixlConnector" in lines(problems(THREE, {"pd_connector": "YuanrongStoreConnector"}))


def test_a_new_certificate_replaces_what_reads_it_once() -> None:
    host = plan(THREE, YUANRONG).host("b")
    assert {c.action for c in host_changes(host, converged(host), AUTHORITY)} == {"keep"}
    changes = host_changes(host, converged(host), "f" * 64)
    actions = {c.id: (c.action, c.reason) for c in changes}
    assert actions["/var/lib/pdinfra/pd/pki"][0] == "create"
    assert "another authority" in actions["/var/lib/pdinfra/pd/pki"][1]
    assert actions["datasystem-b"] == ("replace", "gets a new certificate")
    assert actions["prefill-b-0"][0] == "keep"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "no certificate on the host"),
        ({"addresses": ("192.0.2.1",)}, "it is for 192.0.2.1, not for "),
        ({"expires": NOW + 86400 * 5}, "it ends in 5 days"),
        ({"expires": NOW - 1}, "it has ended"),
    ],
)
def test_certificates_that_are_made_anew(wrong: dict[str, Any], said: str) -> None:
    host = plan(THREE, YUANRONG).host("b")
    good = converged(host)
    own = good.certificates["/var/lib/pdinfra/pd/pki/node.crt"].model_copy(update=wrong)
    found = {**good.certificates, "/var/lib/pdinfra/pd/pki/node.crt": own} if wrong else {}
    seen = good.model_copy(update={"certificates": found})
    changes = {c.kind: c for c in host_changes(host, seen, AUTHORITY)}
    assert said in changes["certificate"].reason
