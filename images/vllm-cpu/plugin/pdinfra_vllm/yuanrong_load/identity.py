"""Which model a directory holds, without reading all of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

SAMPLE = 4096
"""Bytes read from the middle of each tensor. Two fine-tuned models of one architecture have
equal headers and sizes: only values tell them apart, and training moves every tensor."""

MAX_HEADER = 100 * 1024 * 1024
"""safetensors' own limit of a header, bytes."""


class UnknownModelError(Exception):
    """The directory cannot be identified; the message says why."""


def model_digest(directory: Path) -> str:
    """Return a digest of configuration, safetensors headers, sizes, and a sample of each tensor.

    The directory's name and times of change are not part of it: a copy on another
    host is the same model. Raises UnknownModelError if there are no readable safetensors.
    """
    total = hashlib.sha256()
    try:
        files = sorted(directory.glob("*.safetensors"))
        if not files:
            raise UnknownModelError(f"{directory} has no safetensors")
        _add(total, (directory / "config.json").read_bytes())
        for file in files:
            _add(total, file.name.encode())
            for part in _parts(file):
                _add(total, part)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownModelError(f"{directory}: {type(error).__name__}: {error}") from None
    return total.hexdigest()


def _parts(file: Path) -> Iterator[bytes]:
    """Yield a file's size, its header, and a sample of each tensor."""
    with file.open("rb", buffering=0) as stream:
        handle, size = stream.fileno(), file.stat().st_size
        yield str(size).encode()
        # Without this the kernel reads far ahead of each sample.
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        length = int.from_bytes(os.pread(handle, 8, 0), "little")
        if length > MAX_HEADER:
            raise ValueError(f"{file.name} is no safetensors file")
        header = os.pread(handle, length, 8)
        yield header
        for name, tensor in sorted(json.loads(header).items()):
            if name == "__metadata__":
                continue
            begin, end = tensor["data_offsets"]
            if not 0 <= begin <= end <= size - 8 - length:
                raise ValueError(f"{file.name} is cut off at {name}")
            start = max(begin, (begin + end - SAMPLE) // 2)
            yield os.pread(handle, min(SAMPLE, end - start), 8 + length + start)


def _add(total: hashlib._Hash, part: bytes) -> None:
    """Add a part with its length, so that no two sequences of parts are one."""
    total.update(len(part).to_bytes(8, "little"))
    total.update(part)
