"""The shared folder: what has its name is whole, whoever was killed and whoever else wrote."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pdinfra_vllm.shared_storage.folders import Folders

HOUR_AGO = time.time() - 3600


def folders(root: Path, *ranks: str, engine: str = "e1") -> Folders:
    return Folders(root, engine, ranks or ("t0p0",))


def content(size: int) -> bytes:
    return b"x" * size


def put(store: Folders, prompt: str, size: int = 10, rank: str = "t0p0") -> bool:
    def write(folder: Path) -> None:
        folder.joinpath("l").write_bytes(content(size))

    return store.store(prompt, rank, write)


def test_a_prompt_is_there_when_every_rank_has_stored_its_part(tmp_path: Path) -> None:
    store = folders(tmp_path, "t0p0", "t1p0")
    put(store, "a", rank="t0p0")
    assert not store.holds("a")
    put(store, "a", rank="t1p0")
    assert store.holds("a")


def test_a_prompt_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    store, seen = folders(tmp_path), []
    store.store("a", "t0p0", lambda folder: seen.append(store.holds("a")))
    assert seen == [False]
    assert store.holds("a")


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        folder.joinpath("half").write_bytes(b"x")
        raise OSError("no space left on device")

    store = folders(tmp_path)
    with pytest.raises(OSError, match="no space left"):
        store.store("a", "t0p0", full)
    assert not store.holds("a")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_of_two_who_write_the_same_prompt_one_wins(tmp_path: Path) -> None:
    first, second = folders(tmp_path), folders(tmp_path)
    kept: list[bool] = []

    def slow(folder: Path) -> None:
        folder.joinpath("l").write_bytes(b"slow")
        kept.append(put(second, "a", 3))

    kept.append(first.store("a", "t0p0", slow))
    assert kept == [True, False]
    assert first.part("a", "t0p0").joinpath("l").read_bytes() == content(3)
    assert len(list(tmp_path.glob("*/a/*"))) == 1


def test_engines_that_cannot_share_kv_do_not_see_each_others(tmp_path: Path) -> None:
    put(folders(tmp_path, engine="e1"), "a")
    assert not folders(tmp_path, engine="e2").holds("a")


def test_what_could_not_be_read_is_written_anew(tmp_path: Path) -> None:
    store = folders(tmp_path)
    put(store, "a", 3)
    store.discard("a")
    assert not store.holds("a")
    assert put(store, "a", 5)
    assert store.part("a", "t0p0").joinpath("l").read_bytes() == content(5)


def test_what_nobody_has_can_be_discarded(tmp_path: Path) -> None:
    folders(tmp_path).discard("a")
    assert list(tmp_path.iterdir()) == []


def test_cleaning_takes_the_oldest_prompts_until_the_rest_fits(tmp_path: Path) -> None:
    store = folders(tmp_path)
    for age, prompt in enumerate(["new", "middle", "old"]):
        put(store, prompt, 10)
        os.utime(store.part(prompt, "t0p0"), (HOUR_AGO - age, HOUR_AGO - age))
    assert store.clean(most_bytes=20) == 1
    assert [store.holds(prompt) for prompt in ("new", "middle", "old")] == [True, True, False]
    assert store.clean(most_bytes=20) == 0


def test_cleaning_counts_all_ranks_of_a_prompt_as_one(tmp_path: Path) -> None:
    store = folders(tmp_path, "t0p0", "t1p0")
    for prompt in ("a", "b"):
        put(store, prompt, 10, "t0p0")
        put(store, prompt, 10, "t1p0")
    assert store.clean(most_bytes=20) == 1
    assert [store.holds("a"), store.holds("b")].count(True) == 1


def test_cleaning_removes_what_a_killed_writer_left_but_not_what_one_is_writing(
    tmp_path: Path,
) -> None:
    store = folders(tmp_path)
    put(store, "a")
    left = tmp_path / "e1" / "a" / "t0p0.host-1-0.partial"
    writing = tmp_path / "e1" / "a" / "t0p0.host-2-0.partial"
    for folder in (left, writing):
        folder.mkdir()
    os.utime(left, (HOUR_AGO, HOUR_AGO))
    store.clean(most_bytes=1000)
    assert not left.exists()
    assert writing.exists()
    assert store.holds("a")
