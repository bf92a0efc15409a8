"""The images' definitions: a change makes another name."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from pdinfra.lab.images import HOST, REGISTRY, Definition


def members(definition: Definition) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(definition.context())) as tar:
        return {each.name: each for each in tar.getmembers()}


def test_a_changed_definition_has_another_name(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    definition = Definition("host", {"": tmp_path})
    first = definition.reference
    assert definition.reference == first
    (tmp_path / "Dockerfile").write_text("FROM y\n")
    assert definition.reference != first


def test_context_holds_every_folder_below_its_path_and_keeps_programs_executable(
    tmp_path: Path,
) -> None:
    (tmp_path / "tool" / "__pycache__").mkdir(parents=True)
    (tmp_path / "tool" / "__pycache__" / "x.pyc").write_text("")
    (tmp_path / "tool" / "run").write_text("#!/bin/sh\n")
    (tmp_path / "tool" / "run").chmod(0o700)
    (tmp_path / "tool" / "data").write_text("")
    found = members(Definition("x", {"": tmp_path / "nothing", "sim/": tmp_path / "tool"}))
    assert {name: each.mode for name, each in found.items()} == {
        "sim": 0o755,
        "sim/run": 0o755,
        "sim/data": 0o644,
    }


def test_shipped_definitions_are_complete() -> None:
    for definition in (HOST, REGISTRY):
        assert "Dockerfile" in members(definition)
    host = members(HOST)
    assert all(host[name].mode == 0o755 for name in ("lab-init", "runc-wrapper"))
    assert "sim" in host
