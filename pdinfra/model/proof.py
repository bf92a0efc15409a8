"""What verify found, as data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PairProof(BaseModel):
    """One prefill handed one prompt to one decode; tokens by the decode engine's own counters."""

    model_config = ConfigDict(frozen=True)

    prefill: str
    decode: str
    ok: bool
    prompt_tokens: int = 0
    external_tokens: int = 0
    error: str | None = None


class Completion(BaseModel):
    """One completion through the router, as a client sees it."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    text: str = ""
    completion_tokens: int = 0
    error: str | None = None


class Proof(BaseModel):
    """The ``verify --json`` document."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    pairs: tuple[PairProof, ...]
    completion: Completion
    problems: tuple[str, ...] = ()
