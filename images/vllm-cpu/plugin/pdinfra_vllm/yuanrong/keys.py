"""Content-addressed keys of KV blocks.

A block's KV is decided by its tokens, all tokens before them, and the engine
that computed it. So is its key: a chain of hashes over the tokens of full
blocks, seeded with the engine's fingerprint. Equal keys mean equal KV on any
instance, before and after any restart.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence

# Part of every key: change it when the format of stored blocks changes.
FORMAT = 1
_PREFIX = f"pdkv{FORMAT}"

Scalar = str | int | float | bool | None


def fingerprint(facts: Mapping[str, Scalar]) -> bytes:
    """Return 32 bytes that differ when any of the facts does."""
    text = json.dumps(dict(facts), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=32, person=b"pdinfra-engine").digest()


def chain(
    engine: bytes, tokens: Sequence[int], block_size: int, salt: str | None = None
) -> list[bytes]:
    """Return the 32-byte hash of each full block of ``tokens``, in order.

    ``engine`` is the fingerprint; ``salt`` keeps apart requests that must not
    share KV. A last block that is not full has no hash.
    """
    # A missing salt and an empty one differ, and no salt equals a longer fingerprint.
    text = b"\0" if salt is None else b"\1" + salt.encode()
    parent = hashlib.blake2b(engine + text, digest_size=32, person=b"pdinfra-root").digest()
    hashes = []
    for start in range(0, len(tokens) - block_size + 1, block_size):
        block = struct.pack(f"<{block_size}I", *tokens[start : start + block_size])
        parent = hashlib.blake2b(parent + block, digest_size=32, person=b"pdinfra-block").digest()
        hashes.append(parent)
    return hashes


def keys(hashes: Sequence[bytes], rank: str) -> list[str]:
    """Return the keys under which one rank of an engine stores these blocks.

    ``rank`` names a worker's part of the KV and consists of letters and digits.
    """
    return [f"{_PREFIX}:{rank}:{block.hex()}" for block in hashes]


def rank_name(tensor_rank: int, pipeline_rank: int) -> str:
    """Return the name of the part of a block's KV that a worker holds."""
    return f"t{tensor_rank}p{pipeline_rank}"
