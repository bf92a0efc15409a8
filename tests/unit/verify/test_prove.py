"""The proof that KV moves, against FAKE engines and routers (see fakes.py)."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import pytest

from pdinfra.model.proof import Proof
from pdinfra.verify import prove as module
from pdinfra.verify.engines import Client
from pdinfra.verify.prove import prove
from tests.unit.builders import plan
from tests.unit.verify.fakes import PROMPT_TOKENS, FakeServer, moved, prefill, serving, speak, text

PD = {"prefill": ["a"], "decode": ["b"], "router": ["a"]}
MIXED = {"mixed": ["a"], "router": ["a"]}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake's counter is never late: nobody waits for it."""
    monkeypatch.setattr(module, "COUNTER_SECONDS", 0.0)


class Promising(FakeServer):
    """FAKE engine of the vLLM versions between: it counts what its connector promised."""

    def prometheus(self) -> str:
        name = "vllm:external_prefix_cache_hits_total"
        return f"# TYPE {name} counter\n{name} {self.external}\n"


def proven(
    *servers: FakeServer,
    groups: Mapping[str, list[str]] = PD,
    states: Mapping[str, str] | None = None,
) -> Proof:
    """Prove a service of FAKES: its instances in the plan's order, then its router."""
    with serving(*servers) as ports:
        return prove(moved(plan(groups), ports), states or {}, patience=0)


def closed_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_service_that_moves_kv_and_answers_is_proven() -> None:
    decode = FakeServer(speak)
    proof = proven(FakeServer(prefill), decode, FakeServer(speak))
    assert proof.ok, proof.problems
    assert proof.problems == ()
    pair = proof.pairs[0]
    assert (pair.prefill, pair.decode, pair.ok) == ("prefill-a-0", "decode-b-0", True)
    assert (pair.prompt_tokens, pair.external_tokens) == (PROMPT_TOKENS, PROMPT_TOKENS - 1)
    assert proof.completion.text == " qubits"
    assert proof.completion.completion_tokens == 8


def test_every_prefill_is_tried_with_every_decode_on_a_prompt_of_its_own() -> None:
    groups = {"prefill": ["a", "b"], "decode": ["c", "d"], "router": ["a"]}
    servers = [FakeServer(f) for f in (prefill, prefill, speak, speak, speak)]
    proof = proven(*servers, groups=groups)
    assert proof.ok, proof.problems
    assert {(p.prefill, p.decode) for p in proof.pairs} == {
        (f"prefill-{p}-0", f"decode-{d}-0") for p in "ab" for d in "cd"
    }
    prompts = [body["prompt"] for server in servers[:2] for body in server.seen]
    assert len(prompts) == len(set(prompts)) == 4


def test_decode_that_computes_everything_itself_is_found_out() -> None:
    proof = proven(FakeServer(prefill), FakeServer(speak, counts=False), FakeServer(speak))
    assert not proof.ok
    assert not proof.pairs[0].ok
    told = f"decode-b-0 answered, but computed all {PROMPT_TOKENS} prompt tokens itself"
    assert proof.pairs[0].error == told
    assert proof.problems == (f"prefill-a-0 → decode-b-0: {told}",)


OLD = "# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total 90.0\n"


def test_decode_without_a_counter_neither_fails_nor_counts_as_proven() -> None:
    proof = proven(FakeServer(prefill), FakeServer(speak, metrics=OLD), FakeServer(speak))
    assert proof.ok, proof.problems
    assert (proof.pairs[0].external_tokens, proof.pairs[0].counter) == (None, None)
    (note,) = proof.notes
    assert note.startswith("decode-b-0 shows no counter of KV from outside")
    assert "not proven" in note


def test_two_prefills_of_one_such_decode_are_noted_once() -> None:
    groups = {"prefill": ["a", "b"], "decode": ["c"], "router": ["a"]}
    old = FakeServer(speak, metrics=OLD)
    proof = proven(FakeServer(prefill), FakeServer(prefill), old, FakeServer(speak), groups=groups)
    assert len(proof.pairs) == 2
    assert len(proof.notes) == 1


def test_decode_without_a_counter_has_to_answer_all_the_same() -> None:
    old = FakeServer(lambda body: (500, {"error": "boom"}), metrics=OLD)
    proof = proven(FakeServer(prefill), old, FakeServer(speak))
    assert not proof.ok
    assert proof.notes == ()


def test_a_counter_of_promises_is_taken_and_called_one() -> None:
    promised = Promising(speak)
    proof = proven(FakeServer(prefill), promised, FakeServer(speak))
    assert proof.ok, proof.problems
    assert proof.pairs[0].external_tokens == PROMPT_TOKENS - 1
    (note,) = proof.notes
    assert "promised" in note


def test_a_counter_of_promises_that_stays_is_found_out() -> None:
    promised = Promising(speak, counts=False)
    assert not proven(FakeServer(prefill), promised, FakeServer(speak)).ok


def test_a_proof_by_the_counter_of_sources_has_no_notes() -> None:
    proof = proven(FakeServer(prefill), FakeServer(speak), FakeServer(speak))
    assert proof.notes == ()
    assert proof.pairs[0].counter == "vllm:prompt_tokens_by_source"


def test_tokens_of_earlier_requests_prove_nothing() -> None:
    decode = FakeServer(speak, counts=False, external=1000)
    assert not proven(FakeServer(prefill), decode, FakeServer(speak)).pairs[0].ok


def test_prefill_that_hands_nothing_over_is_named() -> None:
    proof = proven(FakeServer(speak), FakeServer(speak), FakeServer(speak))
    error = proof.pairs[0].error
    assert error is not None
    assert error.startswith("prefill-a-0: ")
    assert "KV transfer is off" in error


def test_router_that_answers_200_with_an_empty_text_is_found_out() -> None:
    router = FakeServer(lambda body: (200, text("  ")))
    proof = proven(FakeServer(prefill), FakeServer(speak), router)
    assert not proof.ok
    assert proof.pairs[0].ok
    assert proof.completion.error is not None
    assert proof.completion.error.startswith("router: ")
    assert "answered 200 with an empty text" in proof.completion.error


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((503, {"error": "no worker"}), "answered 503"),
        ((200, b"<html>"), "not JSON"),
        ((200, ["x"]), "not an object"),
        ((200, {"choices": []}), "empty text"),
        ((200, {"choices": [{"text": "x"}]}), "usage"),
    ],
    ids=["503", "html", "list", "no-choices", "no-usage"],
)
def test_router_that_answers_nonsense_is_told_not_a_crash(
    answer: tuple[int, object], told: str
) -> None:
    proof = proven(FakeServer(prefill), FakeServer(speak), FakeServer(lambda body: answer))
    assert not proof.ok
    assert told in str(proof.completion.error)


@pytest.mark.parametrize(
    "answer",
    [(500, {"error": "boom"}), (200, b""), (200, {"choices": [{"text": "x"}]})],
    ids=["500", "empty", "no-usage"],
)
def test_decode_that_answers_nonsense_is_named_not_a_crash(answer: tuple[int, object]) -> None:
    proof = proven(FakeServer(prefill), FakeServer(lambda body: answer), FakeServer(speak))
    assert not proof.ok
    assert str(proof.pairs[0].error).startswith("decode-b-0: ")


def test_metrics_that_are_none_are_told_not_a_crash() -> None:
    decode = FakeServer(speak, metrics="<html>502 Bad Gateway</html>\n")
    proof = proven(FakeServer(prefill), decode, FakeServer(speak))
    assert not proof.ok
    assert str(proof.pairs[0].error).startswith("decode-b-0: ")


def test_engine_that_is_down_is_named_with_its_state() -> None:
    states = {"decode-b-0": "exited on b (exit code 137)"}
    with serving(FakeServer(prefill), FakeServer(speak)) as (first, router):
        service = moved(plan(PD), [first, closed_port(), router])
        proof = prove(service, states, patience=0)
    assert not proof.ok
    assert proof.problems[0].startswith(
        "prefill-a-0 → decode-b-0: decode-b-0 is exited on b (exit code 137): "
    )


def test_engine_that_is_down_and_was_not_looked_at_is_named_with_its_url() -> None:
    port = closed_port()
    with serving(FakeServer(speak), FakeServer(speak)) as (decode, router):
        proof = prove(moved(plan(PD), [port, decode, router]), {}, patience=0)
    assert str(proof.pairs[0].error).startswith(f"prefill-a-0: http://127.0.0.1:{port}/")


def test_router_that_is_down_is_named_with_its_state() -> None:
    states = {"router": "exited on a (exit code 1)"}
    with serving(FakeServer(prefill), FakeServer(speak)) as ports:
        proof = prove(moved(plan(PD), [*ports, closed_port()]), states, patience=0)
    assert not proof.ok
    assert "exited on a (exit code 1)" in str(proof.completion.error)


def test_mixed_engine_is_asked_directly_and_needs_no_pair() -> None:
    engine = FakeServer(speak)
    proof = proven(engine, FakeServer(speak), groups=MIXED)
    assert proof.ok, proof.problems
    assert proof.pairs == ()
    assert len(engine.seen) == 1


def test_mixed_engine_that_is_silent_is_named_with_its_state() -> None:
    silent = FakeServer(lambda body: (200, text("")))
    proof = proven(silent, FakeServer(speak), groups=MIXED, states={"mixed-a-0": "unhealthy on a"})
    assert not proof.ok
    assert proof.problems[0].startswith("mixed-a-0 is unhealthy on a: ")


def test_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    assert proven(FakeServer(prefill), FakeServer(speak), FakeServer(speak)).ok


def test_member_is_ready_when_it_answers_and_not_when_it_is_gone() -> None:
    with serving(FakeServer(speak)) as (port,), Client() as client:
        assert client.healthy(f"http://127.0.0.1:{port}")
        assert not client.healthy(f"http://127.0.0.1:{closed_port()}")
