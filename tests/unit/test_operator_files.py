"""What the operator brings, as it is on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pdinfra.model.inventory import HostSettings
from pdinfra.operator_files import read


def service(folder: Path) -> HostSettings:
    return HostSettings.model_validate(
        {
            "pd_yuanrong_wheels_dir": str(folder / "wheels"),
            "pd_yuanrong_patches": [{"path": str(folder / "a.patch"), "sha256": "0" * 64}],
            "pd_yuanrong_scripts_dir": str(folder / "deploy"),
        }
    )


def test_nothing_there_is_told_apart_from_something_empty(tmp_path: Path) -> None:
    state = read(service(tmp_path))
    assert state.wheels is None
    assert state.patches == {str(tmp_path / "a.patch"): None}
    assert not state.script
    (tmp_path / "wheels").mkdir()
    assert read(service(tmp_path)).wheels == {}


def test_files_are_known_by_their_content(tmp_path: Path) -> None:
    for name in ("wheels", "deploy"):
        (tmp_path / name).mkdir()
    (tmp_path / "wheels" / "x.whl").write_bytes(b"wheel")
    (tmp_path / "wheels" / "notes.txt").write_text("the operator's own")
    (tmp_path / "a.patch").write_bytes(b"patch")
    (tmp_path / "deploy" / "run_vllm_on_yr.sh").write_text("one")
    state = read(service(tmp_path))
    assert state.wheels == {"x.whl": hashlib.sha256(b"wheel").hexdigest()}
    assert list(state.patches.values()) == [hashlib.sha256(b"patch").hexdigest()]
    assert state.script
    (tmp_path / "deploy" / "run_vllm_on_yr.sh").write_text("two")
    assert read(service(tmp_path)).scripts != state.scripts
