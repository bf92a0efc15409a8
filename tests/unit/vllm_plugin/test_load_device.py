"""Device to device, with a fake of DsTensorClient: its signatures, answers and failures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pdinfra_vllm.yuanrong_load.device import DeviceTransport
from pdinfra_vllm.yuanrong_load.manifest import Manifest, TensorSpec
from pdinfra_vllm.yuanrong_load.names import names
from pdinfra_vllm.yuanrong_load.store import StoreError
from pdinfra_vllm.yuanrong_load.transport import NotPublishedError, UnfitError

NAMES = names({"model": "m"})


@dataclass(eq=False)
class Tensor:
    data: str
    kind: str = "npu"
    length: int = 4

    def numel(self) -> int:
        return self.length

    def copy_(self, other: Tensor) -> None:
        self.data = other.data


@dataclass
class Device:
    full: bool = False

    def empty_like(self, tensor: Tensor) -> Tensor:
        if self.full:
            raise RuntimeError("NPU out of memory")
        return Tensor("nothing yet")

    def checksum(self, tensor: Tensor) -> str:
        return f"sum of {tensor.data}"

    def address(self, tensor: Tensor) -> int:
        return id(tensor)

    def kind(self, tensor: Tensor) -> str:
        return tensor.kind


@dataclass
class Client:
    """DsTensorClient as documented in 0.8.1: it keeps references, and returns failed keys."""

    offered: dict[str, Tensor] = field(default_factory=dict)
    fails: list[str] = field(default_factory=list)
    error: Exception | None = None

    def dev_mset(self, keys: list[str], tensors: list[Any]) -> list[str]:
        return self._each(keys, tensors, lambda key, tensor: self.offered.update({key: tensor}))

    def dev_mget(self, keys: list[str], tensors: list[Any], sub_timeout_ms: int = 0) -> list[str]:
        return self._each(keys, tensors, lambda key, tensor: tensor.copy_(self.offered[key]))

    def dev_local_delete(self, keys: list[str]) -> list[str]:
        return [key for key in keys if self.offered.pop(key, None) is None]

    def _each(self, keys: list[str], tensors: list[Any], do: Any) -> list[str]:
        assert type(keys) is list
        assert type(tensors) is list
        if self.error:
            raise self.error
        for key, tensor in zip(keys, tensors, strict=True):
            if not any(key.endswith(end) for end in self.fails):
                do(key, tensor)
        return [key for key in keys if any(key.endswith(end) for end in self.fails)]


SPECS = (
    TensorSpec("a", (2,), "torch.float16", 4),
    TensorSpec("none", (0,), "torch.float16", 0),
    TensorSpec("b", (2,), "torch.float16", 4),
)


class Rig:
    def __init__(self, client: Client, *data: str) -> None:
        self.client = client
        self.device = Device()
        self.tensors: list[Tensor | None] = [
            Tensor(data[0]),
            Tensor("", length=0),
            Tensor(data[1]),
        ]

    def transport(self) -> DeviceTransport:
        return DeviceTransport(self.client, self.device, SPECS, lambda: self.tensors, 3000)

    def published(self) -> Manifest:
        publication = self.transport().publication(NAMES, "0123")
        publication.begin()
        publication.loaded()
        return Manifest("0123", "device", SPECS, publication.finish())

    @property
    def data(self) -> list[str]:
        return [tensor.data for tensor in self.tensors if tensor and tensor.length]


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def first(client: Client) -> Rig:
    return Rig(client, "weights a", "weights b")


@pytest.fixture
def second(client: Client) -> Rig:
    return Rig(client, "old a", "old b")


def _never() -> bool:
    return False


def test_weights_go_from_device_to_device(first: Rig, second: Rig) -> None:
    write = second.transport().stage(first.published(), _never)
    assert second.data == ["old a", "old b"]
    write()
    assert second.data == ["weights a", "weights b"]


def test_failed_keys_of_a_fetch_are_looked_at(first: Rig, second: Rig, client: Client) -> None:
    manifest = first.published()
    client.fails = ["-1"]
    with pytest.raises(UnfitError, match="dev_mget: 1 of 2 keys failed"):
        second.transport().stage(manifest, _never)
    assert second.data == ["old a", "old b"]


def test_failed_keys_of_publishing_are_looked_at(first: Rig, client: Client) -> None:
    client.fails = ["-0"]
    with pytest.raises(NotPublishedError, match="dev_mset: 1 of 2 keys failed"):
        first.published()


def test_weights_that_changed_where_they_lie_are_refused(first: Rig, second: Rig) -> None:
    manifest = first.published()
    first.tensors[0].data = "reused by somebody"  # type: ignore[union-attr]
    with pytest.raises(UnfitError, match="another checksum"):
        second.transport().stage(manifest, _never)
    assert second.data == ["old a", "old b"]


@pytest.mark.parametrize("how", ["in place", "moved", "gone"])
def test_weights_that_vllm_repacks_are_not_published(first: Rig, client: Client, how: str) -> None:
    publication = first.transport().publication(NAMES, "0123")
    publication.loaded()
    if how == "in place":
        first.tensors[2].data = "repacked b"  # type: ignore[union-attr]
    else:
        first.tensors[2] = Tensor("weights b") if how == "moved" else None
    with pytest.raises(NotPublishedError, match=r"repacked 1 tensors after loading them, e\.g\. b"):
        publication.finish()
    assert client.offered == {}


def test_an_offer_can_be_withdrawn(first: Rig, client: Client) -> None:
    publication = first.transport().publication(NAMES, "0123")
    publication.loaded()
    publication.finish()
    assert len(client.offered) == 2
    publication.abandon()
    assert client.offered == {}


@pytest.mark.parametrize("error", [RuntimeError("[RPC unavailable]"), TypeError("not contiguous")])
def test_the_clients_errors(first: Rig, second: Rig, client: Client, error: Exception) -> None:
    manifest = first.published()
    client.error = error
    with pytest.raises(StoreError, match="data system: "):
        second.transport().stage(manifest, _never)


def test_no_device_memory_to_fetch_into(first: Rig, second: Rig) -> None:
    second.device.full = True
    with pytest.raises(UnfitError, match="no device memory"):
        second.transport().stage(first.published(), _never)


def test_chunks_that_do_not_hold_the_tensors(first: Rig, second: Rig) -> None:
    manifest = first.published()
    with pytest.raises(UnfitError, match="do not hold"):
        second.transport().stage(replace(manifest, chunks=manifest.chunks[:1]), _never)


def test_tensors_on_another_device_are_refused(first: Rig) -> None:
    first.tensors[0].kind = "cpu"  # type: ignore[union-attr]
    with pytest.raises(NotPublishedError, match="for NPUs, not for cpu"):
        first.transport()
