#!/usr/bin/env python3
"""Apply the operator's patches to the sources in an engine image, each at most once.

    apply_patches.py MANIFEST FOLDER

MANIFEST is a JSON list of {"file", "sha256", "target", "tool"} (see pdinfra/yuanrong/patches.py),
FOLDER has the files. All checksums are held against the files first; then each patch is skipped if
its repository has it already, checked, and applied (`am`: git am, `apply`: git apply). The first
one that does not fit ends it: one line on stderr names patch, file and cause, and its repository is
as it was. Exit codes: 0 all are applied, 1 one does not fit, 2 the list or the files are wrong.
Standard library only: it runs with an image's own Python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IDENTITY = ("-c", "user.name=pdinfra", "-c", "user.email=pdinfra@localhost")
FAILED_AT = re.compile(r"^error: patch failed: (?P<file>.+?):(?P<line>\d+)$", re.MULTILINE)
OTHER_ERROR = re.compile(r"^error: (?P<file>[^:\n]+): (?P<cause>[^\n]+)$", re.MULTILINE)


class PatchError(Exception):
    """A patch cannot be applied; the text is the one line for the user."""

    def __init__(self, text: str, code: int) -> None:
        """Take the line and the exit code."""
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Patch:
    """One entry of the list, with its file."""

    path: Path
    sha256: str
    target: Path
    tool: str


def main(argv: Sequence[str]) -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("folder", type=Path)
    wanted = parser.parse_args(argv)
    try:
        patches = read(wanted.manifest, wanted.folder)
        for patch in patches:
            print(f"{patch.path.name}: {apply(patch)} {patch.target}")
    except PatchError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


def read(manifest: Path, folder: Path) -> list[Patch]:
    """Return the list. Raises PatchError unless every file is there and what it should be."""
    try:
        rows = json.loads(manifest.read_text(encoding="utf-8"))
        patches = [
            Patch(folder / row["file"], row["sha256"], Path(row["target"]), row["tool"])
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PatchError(f"{manifest}: no list of patches: {error!r}", 2) from error
    wrong = [text for patch in patches if (text := _problem(patch))]
    if wrong:
        raise PatchError("\n".join(wrong), 2)
    return patches


def _problem(patch: Patch) -> str:
    """Return what is wrong with one entry; empty if nothing is."""
    name = patch.path.name
    if patch.tool not in ("am", "apply"):
        return f"{name}: no tool {patch.tool!r}. Fix: am or apply"
    if not patch.path.is_file():
        return f"{name}: not in {patch.path.parent}. Fix: bring the file"
    found = hashlib.sha256(patch.path.read_bytes()).hexdigest()
    if found != patch.sha256:
        return (
            f"{name}: sha256 is {found}, not {patch.sha256}: damaged or another file. "
            "Fix: get it again"
        )
    done = _git(patch.target, "rev-parse", "--show-toplevel")
    if done.returncode != 0 or Path(done.stdout.strip()) != patch.target.resolve():
        return f"{name}: {patch.target} is no git repository. Fix: the image with the sources"
    return ""


def apply(patch: Patch) -> str:
    """Apply one patch; return "applied to" or "already in". Raises PatchError."""
    _end_interrupted(patch.target)
    if _check(patch, "--reverse").returncode == 0:
        return "already in"
    checked = _check(patch)
    if checked.returncode != 0:
        raise PatchError(_reason(patch, checked.stderr), 1)
    if patch.tool == "apply":
        done = _git(patch.target, "apply", str(patch.path.resolve()))
    else:
        done = _git(patch.target, *IDENTITY, "am", "--quiet", str(patch.path.resolve()))
    if done.returncode == 0:
        return "applied to"
    _end_interrupted(patch.target)
    raise PatchError(_reason(patch, f"{done.stderr}\n{done.stdout}"), 1)


def _check(patch: Patch, *options: str) -> subprocess.CompletedProcess[str]:
    """Ask git whether a patch would fit, without a change."""
    return _git(patch.target, "apply", "--check", *options, str(patch.path.resolve()))


def _end_interrupted(target: Path) -> None:
    """Undo a `git am` that stopped halfway, here or in an earlier run."""
    state = _git(target, "rev-parse", "--git-path", "rebase-apply").stdout.strip()
    if (target / state).is_dir():
        _git(target, *IDENTITY, "am", "--abort")


def _git(target: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git in a repository, whoever owns it."""
    # An image's sources belong to whoever built it; git refuses those of another user.
    command = ["git", "-c", f"safe.directory={target}", "-C", str(target), *words]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )


def _reason(patch: Patch, said: str) -> str:
    """Return the one line: patch, file, cause, fix."""
    name = patch.path.name
    fix = f"Fix: a patch for the version of {patch.target} in this image"
    at = FAILED_AT.search(said)
    if at:
        cause = f"does not fit at line {at['line']}; its text there is another version's"
        return f"{name}: {patch.target / at['file']}: {cause}. {fix}"
    other = OTHER_ERROR.search(said)
    if other and other["cause"].startswith("already exists"):
        cause = "is there already, though not all of the patch is: it was applied in part"
        return f"{name}: {patch.target / other['file']}: {cause}. Fix: start from the clean image"
    if other:
        return f"{name}: {patch.target / other['file']}: {other['cause']}. {fix}"
    words = [line.strip() for line in said.splitlines() if line.strip()]
    return f"{name}: {patch.target}: {words[0] if words else 'git says nothing'}. {fix}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
