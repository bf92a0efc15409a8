"""Stack yuanrong across hosts: real etcd (TLS), real data system workers, real vLLM on CPU."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from pdinfra.bench.load import WHERE
from pdinfra.verify.counters import EXTERNAL, prompt_tokens
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
from tests.load import Load

pytestmark = pytest.mark.lab

STORE = {"etcd-node1", "etcd-node2", "etcd-node3", "datasystem-node2", "datasystem-node3"}
ALL = STORE | {"router", "prefill-node2-0", "decode-node3-0"}
NEW = "decode-node2-0"
DATA = "/var/lib/pdinfra/pd/etcd"
DAMAGE = """
import sys
from pdinfra_vllm.yuanrong_load import manifest
from pdinfra_vllm.yuanrong_load.names import Names
from pdinfra_vllm.yuanrong_load.store import DataSystem

host, port = sys.argv[1].split(":")
store = DataSystem(host, int(port), 500, 3000)
published = manifest.load(bytes(store.read([Names(sys.argv[2]).manifest])[0].view))
chunk = published.chunks[0]
store.delete([chunk.key])
room = store.reserve([chunk.key], [chunk.bytes], 600)
room[0].view[:] = bytes(chunk.bytes)
store.commit(room)
"""
"""Puts a chunk of zeros, of the right size, in the place of one of the weights'."""


def external(host: str) -> int:
    """Return how many prompt tokens' KV came to the host's decode engine from outside."""
    text = httpx.get(f"http://{address(host)}:8200/metrics", timeout=10).text
    return prompt_tokens(text).get(EXTERNAL, 0)


def health(host: str, container: str) -> str:
    """Return Docker's word for a container's health."""
    form = "{{.State.Health.Status}} {{.RestartCount}}"
    return on_host(host, "docker", "inspect", "--format", form, f"pd-pd-{container}").out.strip()


def weights(host: str, instance: str) -> str:
    """Return what an engine's log says of its weights since its last start, in lines."""
    started = on_host(
        host, "docker", "inspect", "--format", "{{.State.StartedAt}}", f"pd-pd-{instance}"
    )
    since = started.out.strip()
    log = on_host(host, "docker", "logs", "--since", since, f"pd-pd-{instance}").text
    return "\n".join(line for line in log.splitlines() if "pdinfra: weights " in line)


@pytest.fixture(scope="module")
def service(fleet: None) -> Iterator[Result]:
    """Three etcd members, prefill and decode on hosts of their own, router."""
    pdinfra("down", inventory=INVENTORY)
    put_into_groups("node1", "router", "etcd")
    put_into_groups("node2", "prefill", "etcd")
    put_into_groups("node3", "decode", "etcd")
    change_variables(
        pd_stack="yuanrong",
        pd_connector="YuanrongStoreConnector",
        pd_datasystem_gib=0.5,
        pd_load_format="yuanrong",
        # Two cores for three hosts: a busy worker may be late.
        pd_datasystem_timeout_seconds=60,
    )
    yield up()
    pdinfra("down", inventory=INVENTORY)


def test_up_proves_the_data_system_and_kv_through_it(service: Result) -> None:
    assert service.code == 0, service.text
    assert set(identities(3)) == ALL
    verify = pdinfra("verify", "--json", inventory=INVENTORY)
    assert verify.code == 0, verify.text
    store = verify.json["store"]
    assert store["ok"] is True
    assert set(store["members"]) == {f"{address(f'node{n}')}:31501" for n in (2, 3)}
    assert {(r["writer"], r["reader"]) for r in store["reads"] if r["ok"]} == {
        (f"datasystem-node{one}", f"datasystem-node{other}") for one in (2, 3) for other in (2, 3)
    }
    assert all(pair["external_tokens"] > 0 for pair in verify.json["pairs"])
    status = pdinfra("status", "--json", inventory=INVENTORY)
    assert {s["id"] for s in status.json["stores"] if s["ready"]} == STORE
    assert status.code == 0


@pytest.mark.usefixtures("service")
def test_keys_are_nobodys_but_the_containers_and_in_no_inspect() -> None:
    mode = on_host("node2", "stat", "-c", "%a %u", "/var/lib/pdinfra/pd/pki/node.key").out.split()
    assert mode == ["400", "1000"]
    for host in ("node1", "node2"):
        names = on_host(host, "docker", "ps", "-q").out.split()
        assert "PRIVATE KEY" not in on_host(host, "docker", "inspect", *names).out
    plain = on_host("node2", "curl", "-sS", "-m", "5", f"http://{address('node1')}:2379/version")
    assert plain.code != 0
    stranger = on_host(
        "node2", "curl", "-ksS", "-m", "5", f"https://{address('node1')}:2379/version"
    )
    assert stranger.code != 0, "etcd answered somebody without a certificate"


@pytest.mark.usefixtures("service")
def test_doctor_has_nothing_to_say_and_a_second_run_changes_nothing() -> None:
    before = identities(3)
    doctor = pdinfra("doctor", "--json", inventory=INVENTORY)
    assert doctor.code == 0, doctor.text
    assert [c for c in doctor.json["checks"] if c["status"] != "ok"] == []
    assert {"reach-etcd", "reach-data"} <= {c["id"] for c in doctor.json["checks"]}
    again = up()
    assert again.code == 0, again.text
    assert again.json["summary"] == {"create": 0, "replace": 0, "keep": 8, "remove": 0}
    assert identities(3) == before


@pytest.mark.usefixtures("service")
def test_a_new_decode_host_gets_its_weights_from_the_data_system() -> None:
    before = identities(3)
    first = weights("node2", "prefill-node2-0") + weights("node3", "decode-node3-0")
    assert "weights published" in first, first
    put_into_groups("node2", "prefill", "decode", "etcd")
    again = up()
    assert again.code == 0, again.text
    after = identities(3)
    assert set(after) == ALL | {NEW}
    assert {name for name in ALL if after[name] != before[name]} == set()
    said = weights("node2", NEW)
    assert "weights loaded from the data system" in said, said
    assert "weights loaded from disk" not in said


@pytest.mark.usefixtures("service")
def test_weights_that_were_damaged_there_come_from_disk_and_are_replaced() -> None:
    found = WHERE.search(weights("node2", NEW))
    assert found is not None
    worker, name = found["worker"], found["name"]
    engine = ("docker", "exec", f"pd-pd-{NEW}", "python", "-c", DAMAGE, worker, name)
    damaged = on_host("node2", *engine)
    assert damaged.code == 0, damaged.text
    assert on_host("node2", "docker", "restart", f"pd-pd-{NEW}").code == 0
    wait_until("the engine is ready", 180, lambda: health("node2", NEW).startswith("healthy"))
    said = weights("node2", NEW)
    assert "weights loaded from disk" in said, said
    assert "has another checksum" in said
    wait_until("it is replaced", 30, lambda: "weights published" in weights("node2", NEW))
    verify = pdinfra("verify", inventory=INVENTORY)
    assert verify.code == 0, verify.text


@pytest.mark.usefixtures("service")
def test_a_worker_that_is_killed_costs_no_request_and_comes_back() -> None:
    with Load(f"http://{address('node1')}:8000", "tiny-qwen2", pause=1.0) as load:
        wait_until("requests are answered", 60, lambda: load.answered > 2)
        assert on_host("node2", "pkill", "-9", "-f", "datasystem_worker").code == 0
        wait_until(
            "Docker starts it again", 30, lambda: health("node2", "datasystem-node2")[-1] == "1"
        )
        done = load.answered
        wait_until("requests go on", 120, lambda: load.answered > done + 4)
        wait_until("it is healthy", 90, lambda: health("node2", "datasystem-node2") == "healthy 1")
    assert load.failed == []
    wait_until(
        "the data system is one again",
        120,
        lambda: pdinfra("verify", inventory=INVENTORY).code == 0,
    )


@pytest.mark.usefixtures("service")
def test_an_etcd_member_that_lost_its_data_is_replaced_alone() -> None:
    before = identities(3)
    on_host("node3", "docker", "rm", "-f", "pd-pd-etcd-node3")
    assert on_host("node3", "find", DATA, "-mindepth", "1", "-delete").code == 0
    again = up()
    assert again.code == 0, again.text
    made = [(c["kind"], c["id"]) for c in again.json["changes"] if c["action"] != "keep"]
    assert made == [("etcd", "etcd-node3")]
    after = identities(3)
    assert {name for name in ALL if after[name] != before[name]} == {"etcd-node3"}
    listed = on_host("node1", "docker", "exec", "pd-pd-etcd-node1", "etcdctl", "member", "list").out
    assert listed.count(", started, ") == 3
    assert len(listed.splitlines()) == 3


@pytest.mark.usefixtures("service")
def test_down_leaves_no_container() -> None:
    down = pdinfra("down", inventory=INVENTORY)
    assert down.code == 0, down.text
    assert identities(3) == {}
