"""Published weights from outside an engine, and their lease."""

from __future__ import annotations

import pytest

from pdinfra_vllm.yuanrong_load.__main__ import main
from pdinfra_vllm.yuanrong_load.lease import GONE, keep
from pdinfra_vllm.yuanrong_load.manifest import Chunk, Manifest
from pdinfra_vllm.yuanrong_load.names import names
from pdinfra_vllm.yuanrong_load.settings import Settings
from tests.unit.vllm_plugin.load_fakes import FakeStore

NAMES = names({"model": "m"})


@pytest.fixture
def store() -> FakeStore:
    chunks = (Chunk(NAMES.chunk("p", 0), 1, "a"), Chunk("kv-of-somebody", 1, "a"))
    manifest = Manifest("p", "host", (), chunks).dump()
    values = {chunk.key: b"x" for chunk in chunks}
    return FakeStore(values={**values, NAMES.manifest: manifest, NAMES.claim: b"p"})


def _run(store: FakeStore, *words: str, lines: tuple[str, ...] = ()) -> int:
    return main(words, lines, lambda worker: store)


def test_forget_deletes_these_weights_and_nothing_else(store: FakeStore) -> None:
    assert _run(store, "forget", "h:1", NAMES.base) == 0
    assert list(store.values) == ["kv-of-somebody"]


def test_forget_takes_a_damaged_manifest(store: FakeStore) -> None:
    store.values[NAMES.manifest] = b"{"
    assert _run(store, "forget", "h:1", NAMES.base) == 0
    assert NAMES.manifest not in store.values


def test_renew_tells_whether_all_is_there(store: FakeStore) -> None:
    assert _run(store, "renew", "h:1", "60", lines=(NAMES.manifest,)) == 0
    assert _run(store, "renew", "h:1", "60", lines=(NAMES.manifest, "gone")) == GONE


def test_a_dead_data_system_is_one_line(
    store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.dead_at = "now"
    assert _run(store, "forget", "h:1", NAMES.base) == 1
    assert capsys.readouterr().err == "data system: RPC unavailable\n"


@pytest.mark.parametrize(
    "words", [(), ("forget", "h:1"), ("forget", "h:1", "kv-x"), ("renew", "h:1", "soon")]
)
def test_wrong_usage(store: FakeStore, words: tuple[str, ...]) -> None:
    assert _run(store, *words) == 2


def test_the_lease_is_renewed_well_before_it_ends_until_it_is_gone() -> None:
    pauses: list[float] = []
    keep(Settings("h", 1, lease_s=300), ["k"], lambda _, keys: len(pauses) < 2, pauses.append)
    assert pauses == [100, 100]
