"""The two ways a rank's bytes go: through host memory, or from device to device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pdinfra_vllm.yuanrong_load.manifest import Chunk, Manifest
from pdinfra_vllm.yuanrong_load.names import Names


class UnfitError(Exception):
    """What is published cannot be used; the message says why."""


class NotPublishedError(Exception):
    """These weights cannot be published; the message says why."""


class Publication(Protocol):
    """One attempt to publish a rank's tensors, in the order of the calls of a load."""

    def begin(self) -> None:
        """Before the tensors are filled, in a thread of its own: make room.

        Raises NotPublishedError.
        """

    def loaded(self) -> None:
        """Right after the tensors are filled: secure them against what vLLM does to them next.

        It repacks weights for its kernels, in place or not, and drops them.
        """

    def finish(self) -> tuple[Chunk, ...]:
        """When the model is ready, in a thread of its own: publish; return the chunks.

        Raises StoreError, NotPublishedError.
        """

    def abandon(self) -> None:
        """Delete what was written, hold no tensor. Raises StoreError."""


class Transport(Protocol):
    """A way for the bytes of one model's tensors. Manifests are not its business."""

    name: str
    """As in manifests: what one way publishes the other cannot fetch."""

    def stage(self, manifest: Manifest, expired: Callable[[], bool]) -> Callable[[], None]:
        """Bring everything near and verify it; return what then writes it into the tensors.

        The tensors are untouched until the returned function is called, which cannot
        fail for a reason of the data system's. Raises UnfitError, StoreError.
        """

    def publication(self, names: Names, name: str) -> Publication:
        """Return a new publication of the tensors."""


def same_keys(keys: Sequence[str], failed: Sequence[str] | None) -> str | None:
    """Return what to say of failed keys, None if there are none."""
    return f"{len(failed)} of {len(keys)} keys failed, e.g. {failed[0]}" if failed else None
