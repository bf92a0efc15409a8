"""Every prefill with every decode, every mixed engine, and a completion through the router."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pdinfra.model.plan import Instance, Plan
from pdinfra.model.proof import Completion, PairProof, Proof, StoreProof
from pdinfra.verify.counters import PROMISED, External
from pdinfra.verify.engines import Client, EngineError
from pdinfra.verify.handover import AtEndError, End, way
from pdinfra.verify.ray import replicas_behind
from pdinfra.verify.scheduler import Seen, pairs_behind

PROMPT = "介绍一下量子计算的基本原理"
"""The prompt of guide vllm-pd-connectors."""

UNSEEN_KV = (
    "openYuanrong places the engines itself and shows no counters of theirs: that KV moved from "
    "prefill to decode is not proven here, only that the entry answers and the data system is one"
)
LONG = 4
"""Times the prompt is said: some connectors hand whole blocks over only, of up to 128 tokens."""
TRIES = 2
"""By files: one length in each block is looked for under another name than it was stored under
(read in vLLM v0.32.0, example_connector.py)."""
COUNTER_SECONDS = 10.0
"""vLLM writes its counters a moment after the answer."""


def prove(
    plan: Plan, states: Mapping[str, str], *, patience: float, store: StoreProof | None = None
) -> Proof:
    """Send real requests and read counters. store: what was found of the data system before.

    states: why an instance cannot answer, by id, as far as the facts tell ("exited, code 137").
    patience: seconds that the router may take to notice members that just came back.
    """
    with Client() as client:
        behind = _behind(client, plan, states) if plan.router.static else Seen()
        pairs = behind.pairs if plan.router.static else _pairs(client, plan, states)
        lone = [_lone(client, plan, instance, states) for instance in plan.by_role("mixed")]
        completion = _through_router(
            client, plan, states, patience, try_again=all(p.ok for p in pairs)
        )
    problems = list(store.problems) if store else []
    problems += [f"{p.prefill} → {p.decode}: {p.error}" for p in pairs if p.error]
    problems += [error for error in lone if error]
    problems += behind.problems
    if completion.error:
        problems.append(completion.error)
    return Proof(
        ok=not problems,
        pairs=tuple(pairs),
        completion=completion,
        store=store,
        problems=tuple(problems),
        notes=((UNSEEN_KV,) if plan.cluster else (*behind.unseen,)) + _unproven(pairs),
    )


def _behind(client: Client, plan: Plan, states: Mapping[str, str]) -> Seen:
    """Send requests to an entry that alone knows who answers, and see who worked."""
    if plan.ray is not None:
        return replicas_behind(client, plan, plan.ray, _body(plan))
    return pairs_behind(client, plan, states, _body(plan))


def _unproven(pairs: Sequence[PairProof]) -> tuple[str, ...]:
    """Return what the decode engines' counters do not prove, each engine once."""
    notes = []
    for pair in pairs:
        if pair.ok and pair.external_tokens is None:
            notes.append(
                f"{pair.decode} shows no counter of KV from outside (its vLLM is too old): that KV "
                "moved is not proven, only that prefill and decode answered"
            )
        elif pair.ok and pair.counter == PROMISED:
            notes.append(
                f"{pair.decode} counts what its connector promised ({PROMISED}), not what arrived: "
                "a transfer that failed without a word would be counted as well"
            )
    return tuple(dict.fromkeys(notes))


def _pairs(client: Client, plan: Plan, states: Mapping[str, str]) -> list[PairProof]:
    """Prove each pair; decodes side by side, the pairs of one decode one after another."""

    def of_decode(decode: Instance) -> list[PairProof]:
        return [_pair(client, plan, prefill, decode, states) for prefill in plan.by_role("prefill")]

    decodes = plan.by_role("decode")
    if not decodes:
        return []
    with ThreadPoolExecutor(max_workers=min(len(decodes), 16)) as pool:
        return [proof for proofs in pool.map(of_decode, decodes) for proof in proofs]


def _pair(
    client: Client, plan: Plan, prefill: Instance, decode: Instance, states: Mapping[str, str]
) -> PairProof:
    """Hand one prompt that no cache knows from prefill to decode, and count what arrived."""

    def failed(error: str, tokens: int = 0) -> PairProof:
        return PairProof(
            prefill=prefill.id, decode=decode.id, ok=False, prompt_tokens=tokens, error=error
        )

    kv = {member.id: member.kv for member in plan.router.members}
    first, second = (End(each.id, each.url, kv.get(each.id, "")) for each in (prefill, decode))
    hand_over = way(plan.protocol)
    moved: External | None = None
    tokens = 0
    try:
        for words in range(1, TRIES + 1):
            prompt = f"{uuid.uuid4()} {' '.join([PROMPT] * words * LONG)}"
            body = {"model": plan.model_name, "prompt": prompt, "temperature": 0, "max_tokens": 8}
            before = client.external(decode.url)
            answer = hand_over(client, first, second, body)
            tokens = _usage(answer, "prompt_tokens", decode.url)
            moved = _moved(client, decode, before.tokens if before else 0)
            if moved is None or moved.tokens or plan.protocol != "sequential":
                break
    except AtEndError as error:
        return failed(f"{error.end.id}{_because(states, error.end.id)}: {error}")
    except EngineError as error:
        return failed(f"{decode.id}{_because(states, decode.id)}: {error}")
    if moved is not None and not moved.tokens:
        return failed(
            f"{decode.id} answered, but computed all {tokens} prompt tokens itself", tokens
        )
    return PairProof(
        prefill=prefill.id,
        decode=decode.id,
        ok=True,
        prompt_tokens=tokens,
        external_tokens=moved.tokens if moved else None,
        counter=moved.counter if moved else None,
    )


def _moved(client: Client, decode: Instance, before: int) -> External | None:
    """Return the tokens from outside since ``before``: 0 if none in time, None if uncounted."""
    limit = time.monotonic() + COUNTER_SECONDS
    while True:
        seen = client.external(decode.url)
        if seen is None:
            return None
        moved = seen.tokens - before
        if moved > 0 or time.monotonic() > limit:
            return External(seen.counter, max(moved, 0))
        time.sleep(0.2)


def _lone(client: Client, plan: Plan, instance: Instance, states: Mapping[str, str]) -> str | None:
    """Ask one mixed engine directly; return what is wrong, or None."""
    try:
        _text(client.complete(instance.url, _body(plan)), instance.url)
    except EngineError as error:
        return f"{instance.id}{_because(states, instance.id)}: {error}"
    return None


def _through_router(
    client: Client, plan: Plan, states: Mapping[str, str], patience: float, *, try_again: bool
) -> Completion:
    """Complete one prompt as a client would; again, for a while, if the members are well."""
    limit = time.monotonic() + (patience if try_again else 0)
    while True:
        try:
            answer = client.complete(plan.router.url, _body(plan))
            text = _text(answer, plan.router.url)
            tokens = _usage(answer, "completion_tokens", plan.router.url)
        except EngineError as error:
            if time.monotonic() > limit:
                why = f"router{_because(states, 'router')}: {error}"
                return Completion(prompt=PROMPT, error=why)
            time.sleep(0.5)
            continue
        return Completion(prompt=PROMPT, text=text, completion_tokens=tokens)


def _body(plan: Plan) -> dict[str, Any]:
    """Return a short request."""
    return {"model": plan.model_name, "prompt": PROMPT, "max_tokens": 48, "temperature": 0}


def _usage(answer: Mapping[str, Any], name: str, url: str) -> int:
    """Return a count of the answer's usage. Raises EngineError where there is none."""
    usage = answer.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    if not isinstance(count, int):
        raise EngineError(f"{url} answered without usage.{name}")
    return count


def _because(states: Mapping[str, str], member: str) -> str:
    """Return " is exited …" for a member that is known not to run."""
    return f" is {states[member]}" if member in states else ""


def _text(answer: Mapping[str, Any], url: str) -> str:
    """Return the text of an answer. Raises EngineError for an empty one: the proxies' old lie."""
    text = "".join(choice.get("text") or "" for choice in answer.get("choices") or [])
    if not text.strip():
        raise EngineError(f"{url} answered 200 with an empty text")
    return text
