"""What all facts have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """Base of all facts: immutable."""

    model_config = ConfigDict(frozen=True)
