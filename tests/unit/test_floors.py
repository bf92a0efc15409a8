"""Imports inside pdinfra only go down (docs/design.md, Floors)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdinfra.assets import ROOT

FLOORS = (
    {"model", "versions", "yuanrong"},
    {"reading", "ranktable"},
    {"stacks", "doctor"},
    {"planning", "verify"},
    {"driver"},
    {"lab", "hosttests", "bench"},
    {"cli"},
)
LEVELS = {name: level for level, names in enumerate(FLOORS) for name in names}


def imports(path: Path) -> Iterator[str]:
    """Yield the packages of pdinfra that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = inside if node.module == "pdinfra" else [node.module or ""]
        for name in names:
            if name.startswith("pdinfra."):
                yield name.split(".")[1]


@pytest.mark.parametrize("package", sorted(LEVELS))
def test_imports_only_go_down(package: str) -> None:
    for path in (ROOT / "pdinfra" / package).rglob("*.py"):
        for name in imports(path):
            assert LEVELS.get(name, 0) <= LEVELS[package], f"{path.name} imports {name}"


def test_every_package_has_a_floor() -> None:
    packages = {path.parent.name for path in (ROOT / "pdinfra").glob("*/__init__.py")}
    assert packages == set(LEVELS)


def test_rank_tables_are_pure() -> None:
    forbidden = {"os", "socket", "subprocess", "shutil", "httpx", "docker"}
    for path in (ROOT / "pdinfra" / "ranktable").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not forbidden & set(names), path.name
