"""The weights of one rank, through one start of an engine: fetched, or read and published."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

from pdinfra_vllm.yuanrong_load import lease
from pdinfra_vllm.yuanrong_load import manifest as manifests
from pdinfra_vllm.yuanrong_load.manifest import BadManifestError, Manifest, TensorSpec
from pdinfra_vllm.yuanrong_load.names import Names
from pdinfra_vllm.yuanrong_load.settings import MIB, Settings
from pdinfra_vllm.yuanrong_load.store import Store, StoreError
from pdinfra_vllm.yuanrong_load.transport import (
    NotPublishedError,
    Publication,
    Transport,
    UnfitError,
)

CLAIM_S = 900
"""How long one instance has the right to publish, seconds: a load from disk and the publishing.
It matters only when that instance dies in between."""

Answer = TypeVar("Answer")

# A child of vLLM's logger, which is the one that has a handler.
_logger = logging.getLogger("vllm.pdinfra")


class Rank:
    """The weights of one rank.

    ``load`` and ``processed`` are called by the engine's own thread, in this order.
    Nothing that the data system does or fails to do raises from either.
    """

    def __init__(
        self,
        names: Names,
        tensors: Sequence[TensorSpec],
        settings: Settings,
    ) -> None:
        """Take the names and specs of a model's tensors."""
        self._names = names
        self._tensors = tuple(tensors)
        self._settings = settings
        self._publishing: _Publishing | None = None

    def load(
        self,
        from_disk: Callable[[], str | None],
        connect: Callable[[], Store],
        transport_of: Callable[[Store], Transport],
    ) -> None:
        """Fill the tensors from the data system, or, on any doubt, all of them from disk.

        ``from_disk`` returns what it did besides filling tensors, which a fetch would not do.
        ``connect`` raises StoreError, ``transport_of`` NotPublishedError where its way is none.
        No tensor is held after this: on CPU, vLLM repacks weights and frees the originals.
        """
        started = time.monotonic()
        store, transport, old, publish = None, None, None, False
        try:
            store = connect()
            transport = transport_of(store)
            old = self._published(store)
            manifest, write = self._staged(old, transport)
        except (_NothingPublishedError, BadManifestError, UnfitError) as error:
            reason, publish = str(error), self._settings.publish
        except Exception as error:
            reason = _why(error)
        else:
            write()
            seconds = time.monotonic() - started
            rate = self._rate(seconds)
            _logger.info("pdinfra: weights loaded from the data system: %s, %s", rate, self._where)
            self._keep(manifest)
            return
        asked = time.monotonic() - started
        if publish and store is not None and transport is not None:
            self._publishing = self._claimed(store, transport, old)
        started = time.monotonic()
        besides = from_disk()
        seconds = time.monotonic() - started
        _logger.info(
            "pdinfra: weights loaded from disk: %s because %s (known after %.0f ms)",
            self._rate(seconds),
            reason,
            asked * 1000,
        )
        if self._publishing is not None:
            self._publishing.loaded(besides)

    def processed(self) -> None:
        """Go on with publishing, in a thread, now that vLLM has processed the weights."""
        if self._publishing is None:
            return
        publishing, self._publishing = self._publishing, None
        _thread("pdinfra-publish-weights", lambda: self._finish(publishing))

    def _published(self, store: Store) -> bytes | None:
        """Return the manifest as it is there, None if there is none. Raises StoreError."""
        # Asked first: to ask for the value of a key that is not there can take seconds.
        if not store.exist([self._names.manifest])[0]:
            return None
        value = store.read([self._names.manifest])[0]
        return None if value is None else bytes(value.view)

    def _staged(
        self, raw: bytes | None, transport: Transport
    ) -> tuple[Manifest, Callable[[], None]]:
        """Return the manifest, and what fills the tensors. Raises the reason not to."""
        if raw is None:
            raise _NothingPublishedError("nothing is published")
        ends = time.monotonic() + self._settings.fetch_s
        manifest = manifests.load(raw)
        manifests.check(manifest, self._tensors, transport.name)
        count = len(manifest.chunks)
        mine = [self._names.chunk(manifest.publication, index) for index in range(count)]
        if manifests.keys(manifest.chunks) != mine:
            raise BadManifestError("chunks are not in order")
        return manifest, transport.stage(manifest, lambda: time.monotonic() > ends)

    def _claimed(self, store: Store, transport: Transport, old: bytes | None) -> _Publishing | None:
        """Return a publishing that has begun, None if another instance does it."""
        name = uuid.uuid4().hex[:12]
        room, total = self._settings.room_mb * MIB, sum(each.bytes for each in self._tensors)
        if total > room:
            _logger.info(
                "pdinfra: weights not published because %.2f GB are more than room_mb (%d)",
                total / 1e9,
                self._settings.room_mb,
            )
            return None
        try:
            if not store.put_new(self._names.claim, name.encode(), CLAIM_S):
                _logger.info("pdinfra: weights not published because another instance does it now")
                return None
        except StoreError as error:
            _logger.warning("pdinfra: weights not published because %s", error)
            return None
        return _Publishing(store, self._names, transport, self._tensors, self._settings, name, old)

    def _finish(self, publishing: _Publishing) -> None:
        """Publish, in a thread of its own, and keep it published."""
        manifest = publishing.finish()
        if manifest is None:
            return
        _logger.info(
            "pdinfra: weights published: %.2f GB, which held the engine up for %.2f s, %s",
            manifest.total / 1e9,
            publishing.held_s,
            self._where,
        )
        self._keep(manifest)

    def _keep(self, manifest: Manifest) -> None:
        """Renew the lease of what is published for as long as the process lives, in a thread."""
        settings = self._settings
        held = manifest.chunks if manifest.transport == "host" else ()
        keys = [self._names.manifest, *manifests.keys(held)]
        _thread("pdinfra-keep-weights", lambda: lease.keep(settings, keys))

    def _rate(self, seconds: float) -> str:
        """Return bytes, seconds and speed, as people and ``bench load`` read them."""
        total = sum(tensor.bytes for tensor in self._tensors)
        speed = total / 1e6 / max(seconds, 1e-9)
        return f"{total / 1e9:.2f} GB in {seconds:.2f} s ({speed:.0f} MB/s)"

    @property
    def _where(self) -> str:
        """Return what ``forget`` takes."""
        return f"at {self._settings.worker} as {self._names.base}"


class _NothingPublishedError(Exception):
    """There is no manifest."""


class _Publishing:
    """One claimed publication, from before the disk is read to the manifest."""

    def __init__(
        self,
        store: Store,
        names: Names,
        transport: Transport,
        tensors: tuple[TensorSpec, ...],
        settings: Settings,
        name: str,
        old: bytes | None,
    ) -> None:
        """Make room at once, in a thread: the disk is read at the same time.

        ``old`` is a manifest that nothing could be fetched with.
        """
        self._store = store
        self._names = names
        self._transport = transport.name
        self._tensors = tensors
        self._settings = settings
        self._name = name
        self._old = old
        self._publication: Publication = transport.publication(names, name)
        self._problem: Exception | None = None
        self._begun = _thread("pdinfra-reserve-weights", self._begin)
        self.held_s = 0.0
        """Seconds that the engine waited for the publishing."""

    def loaded(self, besides: str | None) -> None:
        """Secure the weights, unless loading them did something besides. Does not raise."""
        started = time.monotonic()
        self._begun.join()
        if besides:
            self._problem = NotPublishedError(besides)
        self._guarded(self._publication.abandon if self._problem else self._publication.loaded)
        self.held_s = time.monotonic() - started

    def finish(self) -> Manifest | None:
        """Return the manifest that is published now, None if there is none. Does not raise."""
        manifest = None
        if self._problem is None:
            manifest = self._guarded(self._published)
        if manifest is None:
            _logger.warning("pdinfra: weights not published because %s", _why(self._problem))
            self._guarded(self._publication.abandon)
        self._guarded(lambda: self._store.delete([self._names.claim]))
        return manifest

    def _begin(self) -> None:
        self._guarded(self._remove_old)
        self._guarded(self._publication.begin)

    def _published(self) -> Manifest:
        """Write the chunks, then the manifest. Raises StoreError, NotPublishedError."""
        chunks = self._publication.finish()
        manifest = Manifest(self._name, self._transport, self._tensors, chunks)
        if not self._store.put_new(self._names.manifest, manifest.dump(), self._settings.lease_s):
            raise NotPublishedError("another instance was faster")
        return manifest

    def _remove_old(self) -> None:
        """Delete the manifest that nothing could be fetched with, and what it names of ours."""
        key = self._names.manifest
        if self._old is None or not self._store.exist([key])[0]:
            return
        value = self._store.read([key])[0]
        if value is None or bytes(value.view) != self._old:
            return
        self._store.delete([key])
        try:
            chunks = manifests.load(self._old).chunks
        except BadManifestError:
            return
        self._store.delete([key for key in manifests.keys(chunks) if self._names.own(key)])

    def _guarded(self, do: Callable[[], Answer]) -> Answer | None:
        """Do it; note why not. No error in publishing may end an engine that has its weights."""
        try:
            return do()
        except Exception as error:
            # Without its traceback, which would hold the tensors.
            self._problem = self._problem or error.with_traceback(None)
            return None


def _why(error: Exception | None) -> str:
    """Return an error's message; of one that nobody here raised, its kind too."""
    if isinstance(error, (StoreError, NotPublishedError, UnfitError, BadManifestError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _thread(name: str, do: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=do, name=name, daemon=True)
    thread.start()
    return thread
