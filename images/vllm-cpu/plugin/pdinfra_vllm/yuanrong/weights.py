"""Which weights a model directory holds, without reading all of them."""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

# Two trainings of one model have the same names, shapes and sizes, so some of
# each tensor's content is read: its start and one sample per MiB.
_SAMPLE_BYTES = 4096
_SAMPLE_EVERY = 1024 * 1024
_LONGEST_HEADER = 100 * 1024 * 1024


class UnknownWeightsError(ValueError):
    """What a model consists of cannot be told from its directory."""


@functools.cache
def digest(directory: Path) -> str:
    """Return a hex digest that differs when the model in a directory does.

    It covers ``config.json``, and of each ``*.safetensors`` its name, size,
    header (names, types, shapes) and samples of every tensor, but no path or
    time of change: copies of a model on several hosts have one digest. A change
    of single numbers may spare every sample; no training does.

    Raises:
        UnknownWeightsError: There is no such directory, or no safetensors in it.
        OSError: A file cannot be read.
    """
    files = sorted(directory.glob("*.safetensors"))
    config = directory / "config.json"
    if not files or not config.is_file():
        raise UnknownWeightsError(f"{directory} has no config.json or no *.safetensors")
    total = hashlib.sha256(hashlib.sha256(config.read_bytes()).digest())
    for file in files:
        total.update(hashlib.sha256(file.name.encode()).digest())
        total.update(_file_digest(file))
    return total.hexdigest()


def _file_digest(file: Path) -> bytes:
    size = file.stat().st_size
    result = hashlib.sha256(struct.pack("<Q", size))
    with file.open("rb", buffering=0) as stream:
        header = _header(stream, size, file)
        result.update(header)
        for offset, length in _samples(json.loads(header)):
            stream.seek(8 + len(header) + offset)
            result.update(stream.read(length))
    return result.digest()


def _header(stream: BinaryIO, size: int, file: Path) -> bytes:
    """Return the JSON text in front of a safetensors file's tensors."""
    prefix = stream.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
    if length > min(_LONGEST_HEADER, size - 8):
        raise UnknownWeightsError(f"{file} is not a safetensors file")
    return stream.read(length)


def _samples(header: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Yield offset (from the end of the header) and length of each sample."""
    spans = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    for start, end in sorted(spans):
        for offset in range(start, end, _SAMPLE_EVERY):
            yield offset, min(_SAMPLE_BYTES, end - offset)
