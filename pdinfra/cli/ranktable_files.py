"""Tables on disk: read all, write all, and one message for each that cannot be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.ranktable.findings import Stat
from pdinfra.ranktable.read import Table, read
from pdinfra.ranktable.topology import File

MODE = 0o644
"""The vendor's tool leaves 0600, which ma-user in the containers cannot read."""


def read_all(paths: Sequence[Path]) -> list[Table]:
    """Return every table. Raises DriverError with every file that cannot be read."""
    tables, lines = [], []
    for path in paths:
        try:
            tables.append(read(str(path), path.read_bytes().decode("utf-8")))
        except UnicodeDecodeError:
            lines.append(f"{path}: not UTF-8. Fix: name rank tables, JSON files")
        except OSError as error:
            lines.append(f"{path}: {error.strerror}. Fix: name files that exist")
    if lines:
        raise DriverError(lines, INVALID)
    return tables


def stats(paths: Sequence[Path]) -> dict[str, Stat]:
    """Return mode, owner and age of files that were read."""
    return {
        str(path): Stat(seen.st_mode & 0o777, seen.st_uid, seen.st_gid, seen.st_mtime)
        for path in paths
        for seen in [path.stat()]
    }


def write_all(files: Sequence[File], folder: Path) -> list[str]:
    """Write files, each in one step, and return their paths. Raises DriverError where it cannot."""
    written = []
    for file in files:
        path = folder / file.name
        beside = folder / f".{file.name}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(file.text.encode())
            beside.chmod(MODE)
            beside.replace(path)
        except OSError as error:
            line = f"{path}: {error.strerror}. Fix: choose another --save-dir"
            raise DriverError([line], FAILED) from None
        written.append(str(path))
    return written
