"""Room for weights: its memory is made present while the disk is read, and no longer."""

from __future__ import annotations

import threading

import pytest

from pdinfra_vllm.yuanrong_load import host
from pdinfra_vllm.yuanrong_load.names import Names
from tests.unit.vllm_plugin.load_fakes import FakeStore, Tensors

CHUNKS = 4
SECONDS = 10


class Kernel:
    """Makes pages present when it is let."""

    def __init__(self) -> None:
        self.let = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)
        self.sizes: list[int] = []

    def populate(self, view: memoryview) -> None:
        self.sizes.append(view.nbytes)
        self.asked.release()
        assert self.let.acquire(timeout=SECONDS)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(host, "populate", made.populate)
    return made


def test_all_of_the_room_is_made_present(kernel: Kernel) -> None:
    tensors = Tensors(a=320, b=64)
    kernel.let.release(CHUNKS)
    tensors.transport(FakeStore()).publication(Names("x"), "p").begin()
    for _ in range(CHUNKS):
        assert kernel.asked.acquire(timeout=SECONDS)
    assert sorted(kernel.sizes) == [84, 100, 100, 100]


def test_it_ends_with_the_load_and_what_is_published_is_whole(kernel: Kernel) -> None:
    tensors, store = Tensors(a=320, b=64), FakeStore()
    tensors.fill()
    publication = tensors.transport(store).publication(Names("x"), "p")
    publication.begin()
    assert kernel.asked.acquire(timeout=SECONDS)
    publication.loaded()
    kernel.let.release(CHUNKS)
    for thread in threading.enumerate():
        if thread.name == host.POPULATING:
            thread.join(SECONDS)
    chunks = publication.finish()
    assert b"".join(store.values[chunk.key] for chunk in chunks) == b"".join(tensors.data)
    assert len(kernel.sizes) == 1
