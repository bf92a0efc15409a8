"""What verify found, as data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PairProof(BaseModel):
    """One prefill handed one prompt to one decode; tokens by the decode engine's own counters.

    ``counter`` names the one that told. None: the engine has none, ``external_tokens`` is unknown
    (None), and ``ok`` says only that both answered.
    """

    model_config = ConfigDict(frozen=True)

    prefill: str
    decode: str
    ok: bool
    prompt_tokens: int = 0
    external_tokens: int | None = 0
    counter: str | None = None
    error: str | None = None


class KeyRead(BaseModel):
    """One host's worker read what another one's wrote."""

    model_config = ConfigDict(frozen=True)

    writer: str
    reader: str
    ok: bool


class StoreProof(BaseModel):
    """openYuanrong's data system; ``members`` are the workers that etcd calls ready."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    members: tuple[str, ...]
    reads: tuple[KeyRead, ...]
    problems: tuple[str, ...] = ()


class Completion(BaseModel):
    """One completion through the router, as a client sees it."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    text: str = ""
    completion_tokens: int = 0
    error: str | None = None


class Proof(BaseModel):
    """The ``verify --json`` document. ``notes``: what this proof does not prove."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    pairs: tuple[PairProof, ...]
    completion: Completion
    store: StoreProof | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
