"""What built images and the tiny model are made from, as digests."""

from __future__ import annotations

from pathlib import Path

from pdinfra.assets import digest, load


def test_digest_changes_with_content_name_and_number_of_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = digest(tmp_path)
    (tmp_path / "a").write_text("2")
    second = digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    third = digest(tmp_path)
    (tmp_path / "c").write_text("")
    assert len({first, second, third, digest(tmp_path)}) == 4


def test_digest_is_the_same_wherever_the_checkout_is_and_python_ran(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "f").write_text("x")
    (tmp_path / "two" / "__pycache__").mkdir()
    (tmp_path / "two" / "__pycache__" / "f.pyc").write_text("y")
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_shipped_model_and_definitions_are_there() -> None:
    assets = load()
    names = {"vllm-cpu", "vllm-router", "yuanrong", "vllm-ascend-yuanrong"}
    assert set(assets.definitions) == names
    assert all(len(value) == 12 for value in (*assets.definitions.values(), assets.tiny_model))
    assert assets.tiny_heads % assets.tiny_kv_heads == 0
    assert 0 < assets.tiny_bytes < 100_000_000
