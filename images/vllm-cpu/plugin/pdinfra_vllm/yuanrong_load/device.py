"""From device to device, on Ascend, with openYuanrong's DsTensorClient.

NEVER RUN ON HARDWARE: written against the signatures and documents of
``yr.datasystem.ds_tensor_client`` in openyuanrong-datasystem 0.8.1, and tested with a
fake of them. It refuses tensors that are not on an NPU.

What differs from openYuanrong's own vLLM patch: the failed keys that ``dev_mset`` and
``dev_mget`` return are looked at; what comes is verified before a parameter is
touched, in tensors of its own, so that a fetch needs the rank's weights twice in device
memory for a moment; and weights are published only where vLLM's processing after the
load left them as they were: the data system keeps addresses, not copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pdinfra_vllm.yuanrong_load.manifest import Chunk, Manifest, TensorSpec, keys
from pdinfra_vllm.yuanrong_load.names import Names
from pdinfra_vllm.yuanrong_load.store import StoreError
from pdinfra_vllm.yuanrong_load.transport import NotPublishedError, UnfitError, same_keys

MAX_KEYS = 10_000
"""Keys in one request (documented limit)."""


class TensorClient(Protocol):
    """The part of DsTensorClient that is used. Its methods raise RuntimeError or TypeError."""

    def dev_mset(self, keys: list[str], tensors: list[Any]) -> list[str]:
        """Offer tensors; return the failed keys."""

    def dev_mget(self, keys: list[str], tensors: list[Any], sub_timeout_ms: int = 0) -> list[str]:
        """Fill tensors; return the failed keys."""

    def dev_local_delete(self, keys: list[str]) -> list[str]:
        """Withdraw what this client offered; return the failed keys."""


class Device(Protocol):
    """What is done with tensors themselves."""

    def empty_like(self, tensor: Any) -> Any:
        """Return new memory of the same shape and type. Raises RuntimeError if there is none."""

    def checksum(self, tensor: Any) -> str:
        """Return a checksum, made on the device."""

    def address(self, tensor: Any) -> int:
        """Return where a tensor's memory begins."""

    def kind(self, tensor: Any) -> str:
        """Return the kind of device: npu, cpu, ..."""


class DeviceTransport:
    """One key for each tensor; the bytes stay in the memory of the publishing devices."""

    name = "device"

    def __init__(
        self,
        client: TensorClient,
        device: Device,
        tensors: Sequence[TensorSpec],
        current: Callable[[], Sequence[Any]],
        request_ms: int,
    ) -> None:
        """Take the client and the specs.

        ``current`` returns the model's tensors as they are now, in the specs' order, None for
        one that is gone. Raises NotPublishedError if one is on no NPU.
        """
        self._client = client
        self._device = device
        self._tensors = tensors
        self._current = current
        self._request_ms = request_ms
        if other := {device.kind(tensor) for tensor in current()} - {"npu"}:
            raise NotPublishedError(
                f"transport device is for NPUs, not for {', '.join(sorted(other))}"
            )

    def stage(self, manifest: Manifest, expired: Callable[[], bool]) -> Callable[[], None]:
        """Fetch every tensor into new memory and verify it; return what copies them on."""
        if [chunk.bytes for chunk in manifest.chunks] != [
            spec.bytes for spec in self._tensors if spec.bytes
        ]:
            raise UnfitError("chunks do not hold the tensors")
        targets = [tensor for tensor in self._current() if tensor.numel()]
        try:
            staged = [self._device.empty_like(tensor) for tensor in targets]
        except RuntimeError as error:
            raise UnfitError(f"no device memory to fetch into: {str(error)[:200]}") from None
        names = keys(manifest.chunks)
        for start in range(0, len(names), MAX_KEYS):
            if expired():
                raise StoreError("data system: too slow")
            some = names[start : start + MAX_KEYS]
            arguments = (some, staged[start : start + MAX_KEYS], self._request_ms)
            failed = _asked(self._client.dev_mget, *arguments)
            if problem := same_keys(some, failed):
                raise UnfitError(f"dev_mget: {problem}")
        for chunk, tensor in zip(manifest.chunks, staged, strict=True):
            if self._device.checksum(tensor) != chunk.checksum:
                raise UnfitError(f"{chunk.key} has another checksum")

        def write() -> None:
            for target, source in zip(targets, staged, strict=True):
                target.copy_(source)

        return write

    def publication(self, names: Names, name: str) -> DevicePublication:
        """Return a new publication of the tensors."""
        return DevicePublication(
            self._client, self._device, self._tensors, self._current, names, name
        )


class DevicePublication:
    """Offers the parameters' own memory, once nothing moves them any more."""

    def __init__(
        self,
        client: TensorClient,
        device: Device,
        tensors: Sequence[TensorSpec],
        current: Callable[[], Sequence[Any]],
        names: Names,
        name: str,
    ) -> None:
        """Take what to publish, and under which keys."""
        self._client = client
        self._device = device
        self._current = current
        self._places = [place for place, spec in enumerate(tensors) if spec.bytes]
        self._specs = [tensors[place] for place in self._places]
        self._keys = [names.chunk(name, index) for index in range(len(self._specs))]
        self._seen: list[tuple[int, str]] = []

    def begin(self) -> None:
        """Nothing: the data system keeps no bytes."""

    def loaded(self) -> None:
        """Remember where the weights are and what they are."""
        self._seen = self._look()

    def finish(self) -> tuple[Chunk, ...]:
        """Offer the weights. Raises NotPublishedError if processing moved or changed one."""
        now = self._look()
        changed = [
            spec.name
            for spec, was, is_now in zip(self._specs, self._seen, now, strict=True)
            if was != is_now
        ]
        if changed:
            raise NotPublishedError(
                f"vLLM repacked {len(changed)} tensors after loading them, e.g. {changed[0]}"
            )
        tensors = self._now()
        for start in range(0, len(self._keys), MAX_KEYS):
            some = self._keys[start : start + MAX_KEYS]
            failed = _asked(self._client.dev_mset, some, tensors[start : start + MAX_KEYS])
            if problem := same_keys(some, failed):
                raise NotPublishedError(f"dev_mset: {problem}")
        rows = zip(self._keys, self._specs, now, strict=True)
        return tuple(Chunk(key, spec.bytes, checksum) for key, spec, (_, checksum) in rows)

    def abandon(self) -> None:
        """Withdraw the offer."""
        for start in range(0, len(self._keys), MAX_KEYS):
            _asked(self._client.dev_local_delete, self._keys[start : start + MAX_KEYS])

    def _look(self) -> list[tuple[int, str]]:
        """Return address and checksum of each tensor; of one that is gone, neither."""
        return [
            (self._device.address(tensor), self._device.checksum(tensor))
            if tensor is not None and tensor.numel()
            else (0, "gone")
            for tensor in self._now()
        ]

    def _now(self) -> list[Any]:
        """Return the tensors that have a key."""
        tensors = self._current()
        return [tensors[place] for place in self._places]


def _asked(request: Callable[..., list[str]], *arguments: object) -> list[str]:
    """Return the failed keys. Raises StoreError for the client's errors."""
    try:
        return request(*arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        raise StoreError(f"data system: {str(error)[:200]}") from None
