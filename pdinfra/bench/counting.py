"""Engines' counters of prompt tokens by source, around a load."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from pdinfra.bench.result import Tokens, moved
from pdinfra.model.plan import Instance
from pdinfra.verify.engines import Client

COUNTER_SECONDS = 10.0
"""vLLM writes its counters a moment after the answer."""

Sources = dict[str, dict[str, int]]


def sources(client: Client, instances: Iterable[Instance]) -> Sources:
    """Return each engine's prompt tokens by source. Raises EngineError."""
    return {instance.id: client.sources(instance.url) for instance in instances}


def settled(
    client: Client,
    instances: Sequence[Instance],
    readers: Sequence[Instance],
    before: Sources,
    expected: int,
) -> Sources:
    """Return the counters once they hold every measured prompt, or after a while as they are.

    readers: the engines that prompts are counted at, each prompt once. expected: tokens.
    """
    limit = time.monotonic() + COUNTER_SECONDS
    while True:
        after = sources(client, instances)
        names = [reader.id for reader in readers]
        counted = sum(sum(after[name].values()) - sum(before[name].values()) for name in names)
        if counted >= expected or not any(after.values()) or time.monotonic() > limit:
            return after
        time.sleep(0.2)


def moved_of(before: Sources, after: Sources, engines: Sequence[Instance]) -> Tokens | None:
    """Return the tokens by source of some engines."""
    return moved(before, {engine.id: after[engine.id] for engine in engines})
