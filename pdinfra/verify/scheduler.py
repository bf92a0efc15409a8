"""Pairs behind a router that nobody can pass by: requests go in, counters tell who worked.

AscendCloud's scheduler alone knows how a request is handed from prefill to decode. So requests are
sent to it one after another, and every member's own counters are read before and after each.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pdinfra.model.plan import Instance, Plan
from pdinfra.model.proof import PairProof
from pdinfra.verify.counters import EXTERNAL, FAMILY
from pdinfra.verify.engines import Client, EngineError, NoAnswerError

REQUESTS_PER_PAIR = 8
MOST_REQUESTS = 200
COUNTER_SECONDS = 10.0
"""vLLM writes its counters a moment after the answer."""
MOST_LOST = 3
"""Requests without KV from outside: each takes COUNTER_SECONDS, and more of them tell no more."""

Counts = dict[str, dict[str, int]]
"""Prompt tokens by source, by instance id."""


@dataclass
class Seen:
    """What the requests showed. ``unseen``: why something is not proven, without being wrong."""

    pairs: list[PairProof] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def pairs_behind(
    client: Client, plan: Plan, states: Mapping[str, str], body: Mapping[str, Any]
) -> Seen:
    """Send requests until every pair was seen at work, or enough were sent.

    states: why a member cannot answer, by id; body: a request without its prompt.
    """
    members = (*plan.by_role("prefill"), *plan.by_role("decode"))
    seen = Seen()
    for member in members:
        try:
            if client.external(member.url) is None:
                seen.unseen.append(_silent(member))
        except NoAnswerError as error:
            because = f" is {states[member.id]}" if member.id in states else ""
            seen.problems.append(f"{member.id}{because}: {error}")
        except EngineError as error:
            seen.unseen.append(f"{_silent(member)} ({error})")
    if seen.problems or seen.unseen:
        return seen
    try:
        _watch(client, plan, members, body, seen)
    except EngineError as error:
        seen.problems.append(str(error))
    return seen


def _watch(
    client: Client,
    plan: Plan,
    members: tuple[Instance, ...],
    body: Mapping[str, Any],
    seen: Seen,
) -> None:
    """Fill in what requests one after another show."""
    wanted = {(p.id, d.id) for p in plan.by_role("prefill") for d in plan.by_role("decode")}
    found: dict[tuple[str, str], PairProof] = {}
    start = _counts(client, members)
    lost = 0
    for _ in range(min(len(wanted) * REQUESTS_PER_PAIR, MOST_REQUESTS)):
        before = _counts(client, members)
        try:
            answer = client.complete(
                plan.router.url, {**body, "prompt": f"{uuid.uuid4()} {body['prompt']}"}
            )
        except EngineError as error:
            seen.problems.append(f"{plan.router.id}: {error}")
            break
        pair = _pair(client, members, before, (answer.get("usage") or {}).get("prompt_tokens", 0))
        if pair is not None:
            found.setdefault((pair.prefill, pair.decode), pair)
        now = _counts(client, members)
        lost += not any(_arrived(before, now, decode.id) for decode in plan.by_role("decode"))
        if found.keys() == wanted or lost == MOST_LOST:
            break
    seen.pairs += [found[key] for key in sorted(found)]
    after = _counts(client, members)
    idle = [m for m in plan.by_role("decode") if not _arrived(start, after, m.id)]
    for member in idle if not seen.problems else ():
        seen.problems.append(f"{member.id}: no KV from outside arrived, by its own counter")
    missed = sorted(wanted - found.keys())
    if missed and not seen.problems:
        names = ", ".join(f"{prefill} → {decode}" for prefill, decode in missed)
        seen.unseen.append(f"the scheduler gave no request of the proof alone to {names}")


def _pair(
    client: Client, members: tuple[Instance, ...], before: Counts, tokens: int
) -> PairProof | None:
    """Return who handed KV to whom; None if it cannot be told, as with other clients' requests."""
    limit = time.monotonic() + COUNTER_SECONDS
    while True:
        now = _counts(client, members)
        worked = [m for m in members if _total(now[m.id]) > _total(before[m.id])]
        prefill = [m.id for m in worked if m.role == "prefill"]
        decode = [m.id for m in worked if m.role == "decode" and _arrived(before, now, m.id)]
        if prefill and decode:
            break
        if time.monotonic() > limit:
            return None
        time.sleep(0.1)
    if len(prefill) > 1 or len(decode) > 1:
        return None
    # More than this request has: another client's is among it, perhaps with another prefill.
    if tokens and _total(now[decode[0]]) - _total(before[decode[0]]) > tokens:
        return None
    moved = _arrived(before, now, decode[0])
    return PairProof(
        prefill=prefill[0],
        decode=decode[0],
        ok=True,
        prompt_tokens=tokens,
        external_tokens=moved,
        counter=FAMILY,
    )


def _counts(client: Client, members: tuple[Instance, ...]) -> Counts:
    """Return every member's counters. Raises EngineError."""
    return {member.id: client.sources(member.url) for member in members}


def _arrived(before: Counts, after: Counts, member: str) -> int:
    """Return the tokens whose KV came from outside in between."""
    return after[member].get(EXTERNAL, 0) - before[member].get(EXTERNAL, 0)


def _total(counts: Mapping[str, int]) -> int:
    """Return the prompt tokens of all sources."""
    return sum(counts.values())


def _silent(member: Instance) -> str:
    """Return what is not proven where a server shows no counter."""
    return (
        f"{member.id} shows no counter of where KV came from: that it moved from prefill to decode "
        "is not proven, only that the scheduler answers"
    )
