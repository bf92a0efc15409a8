"""Judging the data system's probes: nobody's own word counts."""

from __future__ import annotations

from typing import Any

from pdinfra.model.plan import Store
from pdinfra.model.proof import StoreProof
from pdinfra.verify.store import store_proof, with_count
from tests.unit.builders import YUANRONG, plan

MADE = plan(
    {"router": ["a"], "prefill": ["b"], "decode": ["c"]},
    YUANRONG,
    b={"pd_address": "10.0.0.2"},
    c={"pd_address": "10.0.0.3"},
    a={"pd_address": "10.0.0.1"},
).store
READY = "/datasystem/cluster/{0}\n1795252304860872214;ready\n"
TOKEN = "1795252304.5"


def ok(text: str = "") -> dict[str, Any]:
    return {"rc": 0, "stdout": text, "stderr": ""}


def bad(text: str) -> dict[str, Any]:
    return {"rc": 1, "stdout": "", "stderr": text, "failed": True}


def judge(**more: Any) -> StoreProof:
    """Judge probes that all went well but for those given."""
    assert isinstance(MADE, Store)
    everybody = "".join(READY.format(f"10.0.0.{n}:31501") for n in (2, 3))
    probes: dict[str, Any] = {
        "seen": {"a": ok(everybody)},
        "written": {"b": ok(), "c": ok()},
        "read": {host: {"results": [ok(TOKEN), ok(TOKEN)]} for host in "bc"},
        **more,
    }
    return store_proof(MADE, TOKEN, **probes)


def test_all_ready_and_every_key_read_on_every_host() -> None:
    proof = judge()
    assert proof.ok
    assert proof.members == ("10.0.0.2:31501", "10.0.0.3:31501")
    assert {(r.writer, r.reader) for r in proof.reads} == {
        (f"datasystem-{one}", f"datasystem-{other}") for one in "bc" for other in "bc"
    }


def test_worker_that_etcd_does_not_know_is_named() -> None:
    proof = judge(seen={"a": ok(READY.format("10.0.0.2:31501"))})
    assert proof.problems == ("datasystem-c: etcd does not know it as ready (10.0.0.3:31501)",)


def test_worker_that_recovers_is_not_ready() -> None:
    text = READY.format("10.0.0.2:31501") + "/datasystem/cluster/10.0.0.3:31501\n17;recover\n"
    assert not judge(seen={"a": ok(text)}).ok


def test_healthy_words_do_not_hide_a_worker_that_reads_nothing() -> None:
    missing = bad("code: [Key not found], msg: [...]")
    proof = judge(read={"b": {"results": [ok(TOKEN), missing]}, "c": {"results": [ok(TOKEN)] * 2}})
    (problem,) = proof.problems
    assert problem.startswith("datasystem-b: does not read what datasystem-c wrote: code: [Key")


def test_an_old_value_is_not_the_one_that_was_written() -> None:
    proof = judge(read={"b": {"results": [ok(TOKEN), ok("0")]}, "c": {"results": [ok(TOKEN)] * 2}})
    assert "the value is not the one that was written" in proof.problems[0]


def test_a_worker_that_takes_no_key_is_told_once() -> None:
    lost = bad("code: [RPC unavailable]")
    proof = judge(
        written={"b": ok(), "c": lost},
        read={"b": {"results": [ok(TOKEN), lost]}, "c": {"results": [lost, lost]}},
    )
    assert "datasystem-c: does not take a key: code: [RPC unavailable]" in proof.problems
    assert not [p for p in proof.problems if "what datasystem-c wrote" in p]


def test_one_etcd_member_that_answers_is_enough() -> None:
    text = "".join(READY.format(f"10.0.0.{n}:31501") for n in (2, 3))
    assert judge(seen={"x": bad("context deadline exceeded"), "a": ok(text)}).ok
    proof = judge(seen={"a": bad("context deadline exceeded")})
    assert proof.problems == ("etcd on a does not answer: context deadline exceeded",)


def test_hosts_that_were_left_out_are_not_judged() -> None:
    assert judge(written={"b": ok()}, read={"b": {"results": [ok(TOKEN), bad("no")]}}).ok


def test_the_data_systems_master_is_no_worker_but_has_to_be_there() -> None:
    assert isinstance(MADE, Store)
    store = MADE.model_copy(update={"master": "192.0.2.1:12123"})
    keys = "".join(
        f"/datasystem/cluster/{endpoint}\n1;ready\n"
        for endpoint in [*(w.endpoint for w in store.workers), "192.0.2.1:12123"]
    )
    found = store_proof(store, TOKEN, {"a": ok(keys)}, {}, {})
    assert found.ok
    assert "192.0.2.1:12123" not in found.members
    gone = store_proof(store, TOKEN, {"a": ok(keys.rpartition("/datasystem")[0])}, {}, {})
    assert gone.problems == ("the data system's master: etcd does not know it (192.0.2.1:12123)",)


def test_a_master_that_counts_too_few_nodes_is_a_problem_of_the_proof() -> None:
    whole = StoreProof(ok=True, members=(), reads=())
    assert with_count(whole, {"a": ok("ok: 2 agents")}).ok
    few = with_count(whole, {"a": {"rc": 1, "stdout": "failed: yr status counts 1 agents"}})
    assert few.problems == ("openYuanrong: failed: yr status counts 1 agents",)
