"""What the operator brings for openYuanrong's full mode, as it is on this machine.

Read once by whoever asks for a plan that touches hosts; planning itself does no I/O.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pdinfra.assets import digest
from pdinfra.model.inventory import HostSettings

SCRIPT = "run_vllm_on_yr.sh"


class OperatorState(BaseModel):
    """Files by content (64 hex digits); None where there is no such file or folder.

    ``wheels``: by name, of the folder; ``patches``: by path; ``scripts``: 12 hex digits over all
    files, ``script`` whether run_vllm_on_yr.sh is among them. ``seen`` False: nobody looked.
    """

    model_config = ConfigDict(frozen=True)

    seen: bool = True
    wheels: dict[str, str] | None = None
    patches: dict[str, str | None] = {}
    scripts: str = ""
    script: bool = False


UNSEEN = OperatorState(seen=False)


def read(service: HostSettings) -> OperatorState:
    """Look at the files that an inventory names."""
    scripts = Path(service.yuanrong_scripts_dir or "")
    named = service.yuanrong_scripts_dir is not None and scripts.is_dir()
    return OperatorState(
        wheels=_wheels(service.yuanrong_wheels_dir),
        patches={patch.path: _sha256(Path(patch.path)) for patch in service.yuanrong_patches},
        scripts=digest(scripts) if named else "",
        script=named and (scripts / SCRIPT).is_file(),
    )


def _wheels(folder: str | None) -> dict[str, str] | None:
    """Return the wheels of a folder; other files in it are the operator's own."""
    if folder is None or not Path(folder).is_dir():
        return None
    found = {path.name: _sha256(path) for path in sorted(Path(folder).glob("*.whl"))}
    return {name: each for name, each in found.items() if each is not None}


def _sha256(path: Path) -> str | None:
    """Return a file's checksum; None where there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
