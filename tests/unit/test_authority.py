"""The controller's certificate authority."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdinfra import authority
from pdinfra.model.problems import InvalidInventoryError
from tests.unit.reading.test_certificate import pem


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def test_none_before_the_first_run() -> None:
    assert authority.known("pd") == ""


def test_each_service_has_its_own(home: Path) -> None:
    for name in ("one", "two"):
        folder = authority.folder(name)
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_text(pem())
    assert len({authority.known("one"), authority.known("two")}) == 2


def test_damaged_one_is_told_with_its_path_and_nothing_is_made_anew(home: Path) -> None:
    folder = authority.folder("pd")
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("oops")
    with pytest.raises(InvalidInventoryError) as caught:
        authority.known("pd")
    assert str(folder / "ca.crt") in str(caught.value)
    assert "move" in str(caught.value)
