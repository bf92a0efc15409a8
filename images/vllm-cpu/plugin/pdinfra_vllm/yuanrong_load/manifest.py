"""What was published: tensors, chunks, checksums. The manifest is written last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pdinfra_vllm.yuanrong_load.names import FORMAT


class BadManifestError(Exception):
    """The manifest does not fit; the message says why."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a rank, as its model names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As torch prints it, e.g. ``torch.bfloat16``."""
    bytes: int


@dataclass(frozen=True)
class Chunk:
    """One object of the data system."""

    key: str
    bytes: int
    checksum: str


@dataclass(frozen=True)
class Piece:
    """A run of bytes that is in one tensor and in one chunk."""

    tensor: int
    """Index of the tensor."""
    start: int
    """First byte within the tensor."""
    at: int
    """First byte within the chunk."""
    length: int


@dataclass(frozen=True)
class Manifest:
    """All that one rank published."""

    publication: str
    transport: str
    tensors: tuple[TensorSpec, ...]
    chunks: tuple[Chunk, ...]

    @property
    def total(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    def dump(self) -> bytes:
        """Return the manifest as JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")).encode()


def load(raw: bytes) -> Manifest:
    """Return a manifest from JSON. Raises BadManifestError unless it is whole and well formed."""
    try:
        document = json.loads(raw)
        if document["format"] != FORMAT:
            raise BadManifestError(f"manifest has format {document['format']!r}, not {FORMAT}")
        return Manifest(
            publication=_text(document["publication"]),
            transport=_text(document["transport"]),
            tensors=tuple(_tensor(each) for each in document["tensors"]),
            chunks=tuple(
                Chunk(_text(each["key"]), _size(each["bytes"]), _text(each["checksum"]))
                for each in document["chunks"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadManifestError(f"manifest is damaged: {type(error).__name__}: {error}") from None


def check(manifest: Manifest, tensors: Sequence[TensorSpec], transport: str) -> None:
    """Raise BadManifestError unless it describes exactly a model's own tensors, in order."""
    if manifest.transport != transport:
        raise BadManifestError(f"published for transport {manifest.transport}, not {transport}")
    theirs = {tensor.name: tensor for tensor in manifest.tensors}
    ours = {tensor.name: tensor for tensor in tensors}
    if missing := [name for name in ours if name not in theirs]:
        raise BadManifestError(f"{len(missing)} tensors are not published, e.g. {missing[0]}")
    if foreign := [name for name in theirs if name not in ours]:
        raise BadManifestError(f"{len(foreign)} tensors are not this model's, e.g. {foreign[0]}")
    for name, mine in ours.items():
        if theirs[name] != mine:
            raise BadManifestError(f"{name} is {_kind(theirs[name])} there, {_kind(mine)} here")
    if manifest.tensors != tuple(tensors):
        raise BadManifestError("tensors are in another order")


def pieces(tensors: Sequence[TensorSpec], chunk_bytes: int) -> Iterator[list[Piece]]:
    """Yield the pieces of each chunk: the tensors one after the other, cut every chunk_bytes."""
    now: list[Piece] = []
    filled = 0
    for index, tensor in enumerate(tensors):
        start = 0
        while start < tensor.bytes:
            length = min(tensor.bytes - start, chunk_bytes - filled)
            now.append(Piece(index, start, filled, length))
            start += length
            filled += length
            if filled == chunk_bytes:
                yield now
                now, filled = [], 0
    if now:
        yield now


def sizes(tensors: Sequence[TensorSpec], chunk_bytes: int) -> list[int]:
    """Return the size of each chunk, bytes."""
    total = sum(tensor.bytes for tensor in tensors)
    full, rest = divmod(total, chunk_bytes)
    return [chunk_bytes] * full + ([rest] if rest else [])


def keys(chunks: Iterable[Chunk]) -> list[str]:
    """Return the chunks' keys."""
    return [chunk.key for chunk in chunks]


def _tensor(document: Any) -> TensorSpec:
    shape = tuple(_size(each, least=0) for each in document["shape"])
    size = _size(document["bytes"], least=0)
    return TensorSpec(_text(document["name"]), shape, _text(document["dtype"]), size)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _size(value: Any, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise TypeError(f"{value!r} is no size")
    return value


def _kind(tensor: TensorSpec) -> str:
    return f"{tensor.dtype}{list(tensor.shape)}, {tensor.bytes} bytes"
