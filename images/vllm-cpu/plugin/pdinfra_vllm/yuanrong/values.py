"""The header that every stored value carries, so that what is read can be trusted.

A value is ``HEADER_SIZE`` bytes of header and then the payload. A value that is
truncated, damaged, of another format or stored for another key is recognised,
and its reader treats it as missing.

Layout, little-endian: magic (8 bytes), format version (2), zero (2), CRC-32 of
the payload (4), payload's length (8), BLAKE2b-256 of the key (32), zero (8).
CRC-32 because it is the fastest in the standard library (4 GiB/s where BLAKE2b
reaches 0.4) and has to find accidents, not attackers.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence

Buffer = bytes | bytearray | memoryview

MAGIC = b"pdinfrKV"
FORMAT = 1
_LAYOUT = struct.Struct("<8sHHIQ32s8x")
# 64 bytes, so that tensors in the payload stay aligned.
HEADER_SIZE = _LAYOUT.size


class DamagedError(ValueError):
    """A stored value is not what its key promises."""


def size_of(parts: Sequence[Buffer]) -> int:
    """Return how many bytes the parts of a payload have together."""
    return sum(memoryview(part).nbytes for part in parts)


def header(key: str, parts: Sequence[Buffer]) -> bytes:
    """Return the header for a payload that is the concatenation of ``parts``."""
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return _LAYOUT.pack(MAGIC, FORMAT, 0, checksum, size_of(parts), _digest(key))


def write(key: str, parts: Sequence[Buffer], target: memoryview) -> None:
    """Fill ``target``, which is ``HEADER_SIZE + size_of(parts)`` bytes, with a value."""
    target[:HEADER_SIZE] = header(key, parts)
    start = HEADER_SIZE
    for part in parts:
        flat = memoryview(part).cast("B")
        target[start : start + flat.nbytes] = flat
        start += flat.nbytes


def payload(key: str, value: Buffer) -> memoryview:
    """Return the payload of a value, without copying it.

    Raises:
        DamagedError: The value is truncated, damaged, of another format, or was
            stored for another key.
    """
    view = memoryview(value).cast("B")
    if view.nbytes < HEADER_SIZE:
        raise DamagedError(f"{view.nbytes} bytes are less than a header")
    magic, version, _, checksum, length, digest = _LAYOUT.unpack_from(view)
    if magic != MAGIC or version != FORMAT:
        raise DamagedError(f"header {magic!r} version {version} is not {MAGIC!r} version {FORMAT}")
    if digest != _digest(key):
        raise DamagedError("it was stored for another key")
    content = view[HEADER_SIZE:]
    if content.nbytes != length:
        raise DamagedError(f"{content.nbytes} bytes where the header promises {length}")
    if zlib.crc32(content) != checksum:
        raise DamagedError("its checksum does not match")
    return content


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=32).digest()
