"""What an engine does with every state of the data system: it has the right weights after it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable

import pytest

from pdinfra_vllm.yuanrong_load import lease
from pdinfra_vllm.yuanrong_load import rank as rank_module
from pdinfra_vllm.yuanrong_load.names import names
from pdinfra_vllm.yuanrong_load.rank import Rank
from pdinfra_vllm.yuanrong_load.settings import Settings
from pdinfra_vllm.yuanrong_load.store import Store, StoreError
from tests.unit.vllm_plugin.load_fakes import FakeStore, Tensors

NAMES = names({"model": "m"})
SIZES = {"embed": 240, "norm": 16, "empty": 0, "head": 100}


@pytest.fixture(autouse=True)
def _no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "keep", lambda settings, keys: None)


class Engine:
    """One start of an engine, and what it said."""

    def __init__(self, store: FakeStore, caplog: pytest.LogCaptureFixture) -> None:
        self.store = store
        self.caplog = caplog
        self.tensors = Tensors(**SIZES)
        self.disk = 0

    def start(
        self,
        settings: Settings | None = None,
        meanwhile: Callable[[], None] = lambda: None,
        besides: str | None = None,
    ) -> Engine:
        self.caplog.set_level(logging.INFO, logger="vllm.pdinfra")
        self.caplog.clear()
        rank = Rank(NAMES, self.tensors.specs, settings or Settings("h", 1))

        def from_disk() -> str | None:
            assert self.tensors.untouched
            meanwhile()
            self.disk += 1
            self.tensors.fill()
            return besides

        def connect() -> Store:
            self.store.exist([])
            return self.store

        rank.load(from_disk, connect, lambda store: self.tensors.transport(self.store))
        assert self.tensors.filled
        for data in self.tensors.data:  # as vLLM does when it repacks weights in place
            data[:] = bytes(len(data))
        rank.processed()
        for thread in threading.enumerate():
            if thread.name.startswith("pdinfra-"):
                thread.join(10)
        return self

    @property
    def fetched(self) -> bool:
        assert ("weights loaded from disk" in self.log) == bool(self.disk)
        return "weights loaded from the data system" in self.log

    @property
    def log(self) -> str:
        return "\n".join(self.caplog.messages)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def engine(store: FakeStore, caplog: pytest.LogCaptureFixture) -> Callable[[], Engine]:
    return lambda: Engine(store, caplog)


def test_the_first_reads_and_publishes_the_second_fetches(engine: Callable[[], Engine]) -> None:
    first = engine().start()
    assert not first.fetched
    assert "because nothing is published (known after" in first.log
    assert "weights published: 0.00 GB" in first.log
    assert f"at h:1 as {NAMES.base}" in first.log
    second = engine().start()
    assert second.fetched
    assert f"at h:1 as {NAMES.base}" in second.log
    assert "published" not in second.log


def test_a_manifest_is_written_after_all_chunks(
    engine: Callable[[], Engine], store: FakeStore
) -> None:
    engine().start()
    assert store.calls.index("commit") < len(store.calls) - store.calls[::-1].index("put_new") - 1
    assert NAMES.claim not in store.values


def test_nothing_is_published_if_it_is_not_wanted(
    engine: Callable[[], Engine], store: FakeStore
) -> None:
    assert not engine().start(Settings("h", 1, publish=False)).fetched
    assert store.values == {}


def _chunk_keys(store: FakeStore) -> list[str]:
    return [each["key"] for each in json.loads(store.values[NAMES.manifest])["chunks"]]


def _garbage(store: FakeStore) -> None:
    key = _chunk_keys(store)[1]
    store.values[key] = bytes(reversed(store.values[key]))


def _missing(store: FakeStore) -> None:
    del store.values[_chunk_keys(store)[-1]]


def _short(store: FakeStore) -> None:
    key = _chunk_keys(store)[0]
    store.values[key] = store.values[key][:-1]


def _other_dtype(store: FakeStore) -> None:
    raw = store.values[NAMES.manifest].replace(b"torch.float32", b"torch.int32", 1)
    store.values[NAMES.manifest] = raw


def _fewer_tensors(store: FakeStore) -> None:
    manifest = json.loads(store.values[NAMES.manifest])
    del manifest["tensors"][1]
    store.values[NAMES.manifest] = json.dumps(manifest).encode()


def _chunks_swapped(store: FakeStore) -> None:
    manifest = json.loads(store.values[NAMES.manifest])
    manifest["chunks"][:2] = manifest["chunks"][1::-1]
    store.values[NAMES.manifest] = json.dumps(manifest).encode()


def _no_chunks(store: FakeStore) -> None:
    manifest = json.loads(store.values[NAMES.manifest])
    manifest["chunks"] = []
    store.values[NAMES.manifest] = json.dumps(manifest).encode()


def _half_a_manifest(store: FakeStore) -> None:
    store.values[NAMES.manifest] = store.values[NAMES.manifest][:80]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_garbage, "another checksum"),
        (_missing, "is missing"),
        (_short, "another size"),
        (_other_dtype, "embed is torch.int32"),
        (_fewer_tensors, "1 tensors are not published, e.g. norm"),
        (_chunks_swapped, "chunks are not in order"),
        (_no_chunks, "do not hold the tensors"),
        (_half_a_manifest, "manifest is damaged"),
    ],
)
def test_any_doubt_means_disk_and_what_was_doubtful_is_replaced(
    engine: Callable[[], Engine],
    store: FakeStore,
    damage: Callable[[FakeStore], None],
    reason: str,
) -> None:
    engine().start()
    damage(store)
    second = engine().start()
    assert not second.fetched
    assert reason in second.log
    assert "weights published" in second.log
    assert engine().start().fetched


def test_replacing_deletes_only_keys_of_these_weights(
    engine: Callable[[], Engine], store: FakeStore
) -> None:
    engine().start()
    manifest = json.loads(store.values[NAMES.manifest])
    manifest["chunks"][0] = {"key": "kv-block-of-somebody", "bytes": 100, "checksum": "x"}
    store.values[NAMES.manifest] = json.dumps(manifest).encode()
    store.values["kv-block-of-somebody"] = bytes(100)
    assert not engine().start().fetched
    assert "kv-block-of-somebody" in store.values


@pytest.mark.parametrize("call", ["exist", "read"])
def test_a_worker_that_dies_during_the_fetch(
    engine: Callable[[], Engine], store: FakeStore, call: str
) -> None:
    engine().start()
    store.dead_at = call
    second = engine().start()
    assert not second.fetched
    assert "from disk" in second.log
    assert "RPC unavailable" in second.log
    # A data system that is not well is not written to.
    assert "weights published" not in second.log


@pytest.mark.parametrize("call", ["put_new", "reserve", "commit", "delete"])
def test_a_worker_that_dies_during_publishing_costs_the_engine_nothing(
    engine: Callable[[], Engine], store: FakeStore, call: str
) -> None:
    store.dead_at = call
    assert not engine().start().fetched
    assert NAMES.manifest not in store.values or call == "delete"


def test_weights_that_do_not_fit_leave_nothing_behind(
    engine: Callable[[], Engine], store: FakeStore
) -> None:
    store.room = 300
    store.values["kv"] = bytes(10)
    why = "not published because no room was made for 0.00 GB: data system: Out of memory"
    assert why in engine().start().log
    assert list(store.values) == ["kv"]


def test_weights_that_are_too_large_are_not_tried(
    engine: Callable[[], Engine], store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_module, "MIB", 100)
    assert "0.00 GB are more than room_mb (3)" in engine().start(Settings("h", 1, room_mb=3)).log
    assert store.values == {}
    assert "weights published" in engine().start(Settings("h", 1, room_mb=4)).log


def test_weights_whose_load_does_more_than_a_fetch_are_not_published(
    engine: Callable[[], Engine], store: FakeStore
) -> None:
    log = engine().start(besides="loading sets more than tensors, e.g. has_own").log
    assert "not published because loading sets more than tensors, e.g. has_own" in log
    assert store.values == {}


def test_two_that_start_at_once_publish_once(
    engine: Callable[[], Engine], store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    said = []

    def another() -> None:
        said.append(Engine(store, caplog).start().log)

    first = engine().start(meanwhile=another)
    assert "because another instance does it now" in said[0]
    assert "weights published" in first.log
    assert engine().start().fetched


def test_a_claim_that_expired_does_not_make_two_manifests(
    engine: Callable[[], Engine], store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    def another() -> None:
        del store.values[NAMES.claim]
        Engine(store, caplog).start()
        caplog.clear()

    first = engine().start(meanwhile=another)
    assert "not published because another instance was faster" in first.log
    published = set(store.values)
    assert engine().start().fetched
    assert published == {NAMES.manifest, *_chunk_keys(store)}


def test_no_connection_means_disk(engine: Callable[[], Engine]) -> None:
    one = engine()
    rank = Rank(NAMES, one.tensors.specs, Settings("h", 1))

    def connect() -> Store:
        raise StoreError("no data-system worker at h:1: refused")

    one.caplog.set_level(logging.INFO, logger="vllm.pdinfra")
    rank.load(lambda: one.tensors.fill(), connect, lambda store: one.tensors.transport(one.store))
    assert one.tensors.filled
    assert "because no data-system worker at h:1: refused" in one.log


def test_an_error_nobody_thought_of_means_disk_too(engine: Callable[[], Engine]) -> None:
    one = engine()
    one.store.exist = lambda keys: 1 / 0  # type: ignore[assignment,return-value]
    one.start()
    assert "because ZeroDivisionError: division by zero" in one.log


def test_a_fetch_that_takes_too_long_means_disk(engine: Callable[[], Engine]) -> None:
    engine().start()
    second = engine().start(Settings("h", 1, fetch_s=-1))
    assert "because data system: too slow" in second.log
