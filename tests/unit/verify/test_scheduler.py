"""Pairs behind a scheduler, against a FAKE service: a client whose answers are made up here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import pytest

from pdinfra.model.plan import Plan
from pdinfra.verify import scheduler as module
from pdinfra.verify.counters import EXTERNAL, External
from pdinfra.verify.engines import Client, EngineError, NoAnswerError
from pdinfra.verify.scheduler import Seen, pairs_behind
from tests.unit.ascend import cloud, guide

TOKENS = 42
Pair = tuple[str, str]
P0, P1, D0, D1 = "prefill-a-0", "prefill-b-0", "decode-a-0", "decode-b-0"
ALL = [(P0, D0), (P1, D1), (P0, D1), (P1, D0)]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake's counter is never late: nobody waits for it."""
    monkeypatch.setattr(module, "COUNTER_SECONDS", 0.0)


class FakeService(Client):
    """FAKE service: its scheduler gives requests to pairs in turn; members count tokens.

    others: members that work for somebody else during each request. silent: without counters of
    KV. down: members that do not answer. moves: whether KV gets from prefill to decode.
    """

    def __init__(
        self,
        of: Plan,
        pairs: Sequence[Pair] = ALL,
        *,
        others: Sequence[str] = (),
        silent: Sequence[str] = (),
        down: Sequence[str] = (),
        moves: bool = True,
        error: str = "",
    ) -> None:
        super().__init__()
        self.of = of
        self.turns: Iterator[Pair] = cycle(pairs)
        self.others, self.silent, self.down = others, silent, down
        self.moves, self.error = moves, error
        self.names = {instance.url: instance.id for instance in of.instances}
        self.counts: dict[str, dict[str, int]] = {i.id: {} for i in of.instances}
        self.prompts: list[str] = []

    def complete(
        self, url: str, body: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        assert url == self.of.router.url, "only the scheduler is asked"
        self.prompts.append(body["prompt"])
        if self.error:
            raise EngineError(f"{url} answered 500: {self.error}")
        prefill, decode = next(self.turns)
        self.work(prefill, "local_compute", TOKENS)
        self.work(decode, EXTERNAL if self.moves else "local_compute", TOKENS - 1)
        for name in self.others:
            self.work(name, EXTERNAL if name.startswith("decode") else "local_compute", 7)
        return {"choices": [{"text": "x"}], "usage": {"prompt_tokens": TOKENS}}

    def work(self, name: str, source: str, tokens: int) -> None:
        self.counts[name][source] = self.counts[name].get(source, 0) + tokens

    def sources(self, url: str) -> dict[str, int]:
        return dict(self.counts[self.name_of(url)])

    def external(self, url: str) -> External | None:
        name = self.name_of(url)
        return None if name in self.silent else External("c", self.counts[name].get(EXTERNAL, 0))

    def name_of(self, url: str) -> str:
        name = self.names[url]
        if name in self.down:
            raise NoAnswerError(f"{url}: Connection refused")
        return name


def seen(client: FakeService, states: dict[str, str] | None = None) -> Seen:
    with client:
        return pairs_behind(client, client.of, states or {}, {"model": "m", "prompt": "Hi"})


def test_one_pair_is_proven_by_its_members_counters() -> None:
    client = FakeService(guide(), [(P0, D0)])
    found = seen(client)
    assert (found.problems, found.unseen) == ([], [])
    (pair,) = found.pairs
    assert (pair.prefill, pair.decode, pair.ok) == (P0, D0, True)
    assert (pair.prompt_tokens, pair.external_tokens) == (TOKENS, TOKENS - 1)
    assert len(client.prompts) == 1, "one request is enough"


def test_every_pair_is_found_by_prompts_that_no_cache_knows() -> None:
    client = FakeService(cloud())
    found = seen(client)
    assert (found.problems, found.unseen) == ([], [])
    assert [(p.prefill, p.decode) for p in found.pairs] == sorted(ALL)
    assert len(set(client.prompts)) == len(client.prompts) == 4


def test_pairs_that_the_scheduler_never_chose_are_told_and_are_no_failure() -> None:
    found = seen(FakeService(cloud(), ALL[:2]))
    assert [(p.prefill, p.decode) for p in found.pairs] == ALL[:2]
    assert found.problems == []
    (note,) = found.unseen
    assert note == (f"the scheduler gave no request of the proof alone to {P0} → {D1}, {P1} → {D0}")


@pytest.mark.parametrize("others", [[P1], [D1], [P1, D1], [P0, P1, D0, D1]])
def test_requests_during_which_others_worked_prove_no_pair(others: list[str]) -> None:
    found = seen(FakeService(cloud(), [(P0, D0)], others=others))
    assert found.pairs == []
    assert not any(problem.startswith(D0) for problem in found.problems)


def test_more_tokens_than_the_request_has_are_not_its_own() -> None:
    found = seen(FakeService(guide(), [(P0, D0)], others=[D0]))
    assert (found.pairs, found.problems) == ([], [])
    assert f"{P0} → {D0}" in found.unseen[0]


def test_traffic_of_others_on_all_members_is_no_failure_of_the_service() -> None:
    found = seen(FakeService(cloud(), others=[P0, P1, D0, D1]))
    assert (found.pairs, found.problems) == ([], [])
    assert "gave no request of the proof alone to" in found.unseen[0]


def test_member_without_counters_is_told_and_nothing_is_claimed() -> None:
    client = FakeService(guide(), [(P0, D0)], silent=[D0])
    found = seen(client)
    assert (found.pairs, found.problems) == ([], [])
    (note,) = found.unseen
    assert note.startswith(f"{D0} shows no counter of where KV came from")
    assert "is not proven" in note


def test_member_that_is_down_is_a_problem_with_its_state() -> None:
    client = FakeService(guide(), [(P0, D0)], down=[P0])
    found = seen(client, {P0: "exited (code 137)"})
    assert found.pairs == []
    (problem,) = found.problems
    assert problem.startswith(f"{P0} is exited (code 137): http://192.0.2.11:8088")
    assert client.prompts == [], "nothing is sent to a service that is known to be broken"


def test_schedulers_error_is_a_problem() -> None:
    found = seen(FakeService(guide(), [(P0, D0)], error="no decode instance"))
    (problem,) = found.problems
    assert problem.startswith("router: ")
    assert "answered 500: no decode instance" in problem
    assert found.pairs == []


def test_decode_that_computes_everything_itself_is_found_out() -> None:
    found = seen(FakeService(guide(), [(P0, D0)], moves=False))
    assert found.pairs == []
    assert found.problems == [f"{D0}: no KV from outside arrived, by its own counter"]


def test_decode_that_gets_no_request_is_found_out() -> None:
    found = seen(FakeService(cloud(), [(P0, D0), (P1, D0)]))
    assert found.problems == [f"{D1}: no KV from outside arrived, by its own counter"]


class Dying(FakeService):
    """FAKE service whose decode ends with the first request."""

    def complete(
        self, url: str, body: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        self.down = [D0]
        return super().complete(url, body)


def test_member_that_dies_meanwhile_is_a_problem() -> None:
    (problem,) = seen(Dying(guide(), [(P0, D0)])).problems
    assert "Connection refused" in problem


def test_service_that_moves_no_kv_is_not_asked_on_and_on() -> None:
    client = FakeService(cloud(), moves=False)
    found = seen(client)
    assert len(client.prompts) == 3, "each one waits for counters that never move"
    assert [problem.partition(":")[0] for problem in found.problems] == [D0, D1]
