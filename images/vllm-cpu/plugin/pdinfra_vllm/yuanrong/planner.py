"""The scheduler's side: which blocks of which request to load and to save.

Pure but for the store's look-ups; it knows vLLM's requests only by :class:`Prompt`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from pdinfra_vllm.yuanrong import keys
from pdinfra_vllm.yuanrong.metadata import Load, Save, Step

# How long an answer of the data system is believed. vLLM asks again in every step
# in which it has no room for a waiting request.
_LOOKUP_VALID_S = 1.0


class Lookup(Protocol):
    """What a planner asks of a store."""

    def exist(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether a value is there."""


@dataclasses.dataclass
class Prompt:
    """A request's prompt, as far as its KV is shared."""

    hashes: list[bytes]
    saved: int = 0
    loading: frozenset[int] = frozenset()
    given_up: bool = False
    found: int = 0
    looked_from: int = 0
    looked_at: float = float("-inf")


class Planner:
    """Plans the transfers of one engine, step by step."""

    def __init__(
        self,
        store: Lookup,
        engine: bytes,
        block_size: int,
        ranks: Sequence[str],
        saves: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Plan for an engine with this fingerprint whose workers are ``ranks``."""
        self._store = store
        self._engine = engine
        self._block_size = block_size
        self._ranks = tuple(ranks)
        self._saves = saves
        self._clock = clock
        self._prompts: dict[str, Prompt] = {}
        self._loads: list[Load] = []

    def add(self, request_id: str, tokens: Sequence[int], salt: str | None) -> None:
        """Take a request whose KV may be shared."""
        hashes = keys.chain(self._engine, tokens, self._block_size, salt)
        if hashes:
            self._prompts[request_id] = Prompt(hashes)

    def remove(self, request_id: str) -> None:
        """Forget a request that ended."""
        self._prompts.pop(request_id, None)

    def stored_tokens(self, request_id: str, computed: int) -> int:
        """Return how many tokens after the ``computed`` ones can be loaded."""
        prompt = self._prompts.get(request_id)
        if prompt is None or prompt.given_up:
            return 0
        first = computed // self._block_size
        now = self._clock()
        if prompt.looked_from != first or now - prompt.looked_at > _LOOKUP_VALID_S:
            prompt.found = self._leading(prompt.hashes[first:])
            prompt.looked_from, prompt.looked_at = first, now
        return prompt.found * self._block_size

    def load(self, request_id: str, block_ids: Sequence[int], tokens: int) -> None:
        """Note that ``tokens`` tokens are to be loaded into blocks of a request.

        ``block_ids`` are all blocks of the request; the tokens follow those that
        the last look-up was told to be computed.
        """
        prompt = self._prompts[request_id]
        first = prompt.looked_from
        last = first + tokens // self._block_size
        ids = list(block_ids[first:last])
        prompt.loading = frozenset(ids)
        # What was found there may be gone when the request is scheduled again.
        prompt.looked_at = float("-inf")
        self._loads.append(Load(request_id, prompt.hashes[first:last], ids))

    def loaded(self, request_ids: Collection[str], failed_blocks: Collection[int]) -> None:
        """Note which loads ended, and which blocks failed.

        A request whose load failed computes its prompt: a value that is found but
        cannot be read would otherwise be tried for ever.
        """
        for request_id in request_ids:
            prompt = self._prompts.get(request_id)
            if prompt is None:
                continue
            if not prompt.loading.isdisjoint(failed_blocks):
                prompt.given_up = True
            prompt.loading = frozenset()

    def step(self, computed: Mapping[str, int], block_ids: Callable[[str], Sequence[int]]) -> Step:
        """Return the transfers of a step, after which these tokens are computed."""
        loads, self._loads = self._loads, []
        saves = []
        for request_id, tokens in computed.items() if self._saves else ():
            prompt = self._prompts.get(request_id)
            if prompt is None:
                continue
            full = min(tokens // self._block_size, len(prompt.hashes))
            if full <= prompt.saved:
                continue
            ids = list(block_ids(request_id)[prompt.saved : full])
            saves.append(Save(prompt.hashes[prompt.saved : full], ids))
            prompt.saved = full
        return Step(self._engine, loads, saves)

    def _leading(self, hashes: Sequence[bytes]) -> int:
        """Return how many blocks from the first on all ranks have stored."""
        if not hashes:
            return 0
        names = [keys.keys(hashes, rank) for rank in self._ranks]
        found = self._store.exist([name for rank in names for name in rank])
        for index in range(len(hashes)):
            if not all(found[index :: len(hashes)]):
                return index
        return len(hashes)
