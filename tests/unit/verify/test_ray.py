"""Replicas on Ray Serve, against a FAKE cluster: a client whose answers are made up here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, TypeVar

import pytest

from pdinfra.model.plan import Plan
from pdinfra.verify import ray as module
from pdinfra.verify.counters import EXTERNAL
from pdinfra.verify.engines import Client, EngineError
from pdinfra.verify.ray import Worked, counts, replicas_behind
from pdinfra.verify.scheduler import Seen
from tests.unit.builders import plan

T = TypeVar("T")
TOKENS = 42
HOSTS = {name: {"pd_address": f"192.0.2.{n}"} for n, name in enumerate("abc", start=1)}
A, B, C = (f"http://192.0.2.{n}:6385" for n in (1, 2, 3))
SERVE = {"pd_stack": "ray", "pd_connector": "nixl"}
Replica = tuple[str, str]
"""A node's URL, and Ray's id."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake's counter is never late: nobody waits for it."""
    monkeypatch.setattr(module, "COUNTER_SECONDS", 0.0)


def mixed(**every: Any) -> Plan:
    """Return a replica on each of three hosts."""
    return plan({"mixed": ["a", "b", "c"], "router": ["a"]}, {**SERVE, **every}, **HOSTS)


def paired(**more: Any) -> Plan:
    """Return a prefill replica on a, decode replicas on b and c."""
    return plan({"prefill": ["a"], "decode": ["b", "c"], "router": ["a"], **more}, SERVE, **HOSTS)


class FakeCluster(Client):
    """FAKE cluster: its entry gives requests to replicas in turn; nodes show their counters.

    each: who works for a request, in turn. moves: whether KV comes from other engines. error: of
    the entry. down: a node that does not answer.
    """

    def __init__(
        self,
        of: Plan,
        each: Sequence[Sequence[Replica]],
        *,
        moves: bool = True,
        error: str = "",
        down: str = "",
    ) -> None:
        super().__init__()
        self.of, self.turns = of, cycle(each)
        self.moves, self.error, self.down = moves, error, down
        self.requests: dict[Replica, int] = {(A, "old"): 7}
        self.moved: dict[Replica, int] = {}
        self.prompts: list[str] = []
        self._lock = threading.Lock()

    def complete(
        self, url: str, body: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        assert url == self.of.router.url, "only the entry is asked"
        if self.error:
            raise EngineError(f"{url} answered 500: {self.error}")
        with self._lock:
            self.prompts.append(body["prompt"])
            *_, last = replicas = next(self.turns)
            for replica in replicas:
                self.requests[replica] = self.requests.get(replica, 0) + 1
            if len(replicas) > 1 and self.moves:
                self.moved[last] = self.moved.get(last, 0) + TOKENS - 1
        return {"choices": [{"text": "x"}], "usage": {"prompt_tokens": TOKENS}}

    def metrics(self, url: str, read: Callable[[str], T]) -> T:
        if url == self.down:
            raise EngineError(f"{url}: Connection refused")
        return read(
            text(
                {name: n for (node, name), n in self.requests.items() if node == url},
                {name: n for (node, name), n in self.moved.items() if node == url},
            )
        )


def text(requests: Mapping[str, int], external: Mapping[str, int]) -> str:
    """Return a node's metrics, in Ray's names."""
    done = "ray_vllm_request_success_total"
    sources = "ray_vllm_prompt_tokens_by_source_total"
    return "\n".join(
        [
            f"# TYPE {done} counter",
            *(
                f'{done}{{ReplicaId="{name}",finished_reason="{reason}"}} {count}.0'
                for name, n in requests.items()
                for reason, count in (("length", n), ("stop", 0))
            ),
            f"# TYPE {sources} counter",
            *(
                f'{sources}{{ReplicaId="{name}",source="{source}"}} {count}.0'
                for name, n in external.items()
                for source, count in ((EXTERNAL, n), ("local_compute", 5))
            ),
            "# TYPE ray_node_mem_used gauge",
            "ray_node_mem_used 1.0",
            "",
        ]
    )


def seen(client: FakeCluster) -> Seen:
    ray = client.of.ray
    assert ray is not None
    with client:
        return replicas_behind(client, client.of, ray, {"model": "m", "prompt": "Hi"})


def test_counters_are_read_by_replica() -> None:
    assert counts(text({"x": 3, "y": 0}, {"y": 41})) == {
        "x": Worked(requests=3),
        "y": Worked(external=41),
    }
    assert counts("") == {}


def test_every_replica_that_worked_is_proven_by_its_nodes_counters() -> None:
    client = FakeCluster(mixed(), [[(A, "x")], [(B, "y")], [(C, "z")]])
    found = seen(client)
    assert (found.problems, found.pairs, found.unseen) == ([], [], [])
    assert len(client.prompts) == module.AT_ONCE, "one round is enough"
    assert len(set(client.prompts)) == len(client.prompts), "no cache knows them"


def test_a_replica_that_nobody_reaches_is_named() -> None:
    client = FakeCluster(mixed(), [[(A, "x")], [(B, "y")]])
    sent = module.ROUNDS * module.AT_ONCE
    assert seen(client).problems == [
        f"mixed-c-0: no request reached it, of {sent} that were answered"
    ]


def test_work_of_another_replica_on_the_same_host_is_not_its_own() -> None:
    two: dict[str, Any] = {"pd_instances": [{"role": "mixed"}, {"role": "mixed"}]}
    groups = {"mixed": ["a", "b", "c"], "router": ["a"]}
    made = plan(groups, SERVE, a=HOSTS["a"], b={**HOSTS["b"], **two}, c=HOSTS["c"])
    one = FakeCluster(made, [[(A, "x")], [(B, "y")], [(C, "z")]])
    assert [problem.split(":")[0] for problem in seen(one).problems] == ["mixed-b-1"]
    both = FakeCluster(made, [[(A, "x")], [(B, "y")], [(B, "w")], [(C, "z")]])
    assert seen(both).problems == []


def test_what_replicas_did_before_proves_nothing() -> None:
    client = FakeCluster(mixed(), [[(B, "y")], [(C, "z")]])
    assert [problem.split(":")[0] for problem in seen(client).problems] == ["mixed-a-0"]


def test_replicas_that_ray_may_do_without_need_not_work() -> None:
    client = FakeCluster(mixed(pd_ray_min_replicas=1), [[(B, "y")]])
    assert seen(client).problems == []
    client = FakeCluster(mixed(pd_ray_min_replicas=2), [[(B, "y")]])
    assert len(seen(client).problems) == 2


def test_kv_that_moved_is_proven_for_each_decode() -> None:
    found = seen(FakeCluster(paired(), [[(A, "p"), (B, "y")], [(A, "p"), (C, "z")]]))
    assert (found.problems, found.unseen) == ([], [])
    assert [(p.prefill, p.decode, p.ok) for p in found.pairs] == [
        ("prefill-a-0", "decode-b-0", True),
        ("prefill-a-0", "decode-c-0", True),
    ]
    assert {p.prompt_tokens for p in found.pairs} == {TOKENS}
    assert all(p.external_tokens for p in found.pairs)


def test_decodes_that_computed_everything_themselves_are_no_pair() -> None:
    client = FakeCluster(paired(), [[(A, "p"), (B, "y")], [(A, "p"), (C, "z")]], moves=False)
    found = seen(client)
    assert [p.ok for p in found.pairs] == [False, False]
    assert {p.error for p in found.pairs} == {
        "all prompts were computed by the engine that answered"
    }


def test_which_of_several_prefills_it_was_is_not_claimed() -> None:
    made = plan({"prefill": ["a", "b"], "decode": ["c"], "router": ["a"]}, SERVE, **HOSTS)
    found = seen(FakeCluster(made, [[(A, "p"), (C, "z")], [(B, "q"), (C, "z")]]))
    assert found.problems == []
    assert [(p.prefill, p.decode, p.ok) for p in found.pairs] == [
        ("one of prefill", "decode-c-0", True)
    ]
    assert found.unseen == ["which prefill replica a prompt went to is Ray Serve's business"]


def test_an_entry_that_refuses_is_told_and_ends_it() -> None:
    found = seen(FakeCluster(mixed(), [[(A, "x")]], error="no replica"))
    (problem,) = found.problems
    assert problem.startswith("router: ")
    assert "no replica" in problem


def test_a_node_without_metrics_is_told() -> None:
    found = seen(FakeCluster(mixed(), [[(A, "x")]], down=B))
    assert found.problems == [f"Ray's counters: {B}: Connection refused"]
