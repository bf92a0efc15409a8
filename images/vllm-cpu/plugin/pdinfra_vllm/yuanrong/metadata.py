"""What the scheduler tells its workers for one step."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Load:
    """Blocks of one request that are to be read from the data system."""

    request_id: str
    hashes: list[bytes]
    block_ids: list[int]


@dataclasses.dataclass(frozen=True)
class Save:
    """Blocks that will be full after the step and may not be stored yet."""

    hashes: list[bytes]
    block_ids: list[int]


@dataclasses.dataclass(frozen=True)
class Step:
    """All transfers of one step. ``engine`` is the scheduler's fingerprint."""

    engine: bytes
    loads: list[Load]
    saves: list[Save]
