"""The scheduler's side: which prompt to load, which to store, and when it is computed whole.

Pure but for the look into the folder; it knows vLLM's requests only by :class:`Prompt`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class Lookup(Protocol):
    """What a planner asks of the folder."""

    def holds(self, prompt: str) -> bool:
        """Tell whether a prompt's KV is there, of all ranks."""
        ...


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A prompt's whole blocks, of which those from ``first`` on are loaded into ``block_ids``.

    What is stored begins at 0.
    """

    request_id: str
    prompt: str
    first: int
    block_ids: list[int]


@dataclasses.dataclass(frozen=True)
class Step:
    """All transfers of one step. ``engine`` is the scheduler's fingerprint."""

    engine: str
    loads: list[Transfer]
    stores: list[Transfer]


@dataclasses.dataclass
class Prompt:
    """A request's prompt, as far as its KV is shared: its whole blocks."""

    name: str
    blocks: int
    loaded: bool = False
    stored: bool = False


class Planner:
    """Plans the transfers of one engine, step by step."""

    def __init__(self, folder: Lookup, engine: str, block_size: int, stores: bool) -> None:
        """Plan for an engine with this fingerprint and blocks of ``block_size`` tokens."""
        self._folder = folder
        self._engine = engine
        self._block_size = block_size
        self._stores = stores
        self._prompts: dict[str, Prompt] = {}
        self._loads: list[Transfer] = []

    def add(self, request_id: str, tokens: Sequence[int], salt: str | None) -> None:
        """Take a request. A prompt of less than one whole block is nobody's business."""
        blocks = len(tokens) // self._block_size
        if blocks:
            name = prompt_name(tokens[: blocks * self._block_size], salt)
            self._prompts[request_id] = Prompt(name, blocks)

    def remove(self, request_id: str) -> None:
        """Forget a request that ended."""
        self._prompts.pop(request_id, None)

    def stored_tokens(self, request_id: str, computed: int) -> int:
        """Return how many tokens after the ``computed`` ones can be loaded, 0 or more.

        A request loads once: after a load that failed, or was preempted, it computes.
        """
        prompt = self._prompts.get(request_id)
        if prompt is None or prompt.loaded:
            return 0
        missing = prompt.blocks - computed // self._block_size
        if missing <= 0 or not self._folder.holds(prompt.name):
            return 0
        return missing * self._block_size

    def load(self, request_id: str, block_ids: Sequence[int], tokens: int) -> None:
        """Note that a prompt's last ``tokens`` tokens are to be loaded into a request's blocks."""
        prompt = self._prompts[request_id]
        prompt.loaded = True
        first = prompt.blocks - tokens // self._block_size
        ids = list(block_ids[first : prompt.blocks])
        self._loads.append(Transfer(request_id, prompt.name, first, ids))

    def step(self, computed: Mapping[str, int], block_ids: Callable[[str], Sequence[int]]) -> Step:
        """Return the transfers of a step, after which these tokens are computed.

        A long prompt is computed in several steps, and stored in the one that makes it whole.
        """
        loads, self._loads = self._loads, []
        stores = []
        for request_id, tokens in computed.items() if self._stores else ():
            prompt = self._prompts.get(request_id)
            if prompt is None or prompt.stored or tokens < prompt.blocks * self._block_size:
                continue
            prompt.stored = True
            if not self._folder.holds(prompt.name):
                ids = list(block_ids(request_id)[: prompt.blocks])
                stores.append(Transfer(request_id, prompt.name, 0, ids))
        return Step(self._engine, loads, stores)


def prompt_name(tokens: Sequence[int], salt: str | None) -> str:
    """Return what a prompt's folder is called; a salt keeps apart who must not share KV."""
    text = b"\0" if salt is None else b"\1" + salt.encode()
    content = struct.pack(f"<{len(tokens)}I", *tokens)
    return hashlib.blake2b(content + text, digest_size=16, person=b"pdinfra-prompt").hexdigest()
