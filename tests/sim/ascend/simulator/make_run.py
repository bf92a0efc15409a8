"""Write a simulated driver or firmware package."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from pathlib import Path

from .installer import Package
from .run_package import make


def main(argv: Sequence[str]) -> int:
    """Run one call; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make-run", description="Make a SIMULATED driver or firmware package."
    )
    parser.add_argument("kind", choices=["driver", "firmware"])
    parser.add_argument("--version", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--outcome", choices=["ok", "fail", "reboot"], default="ok")
    parser.add_argument("--arch", choices=["x86_64", "aarch64"], default=platform.machine())
    wanted = parser.parse_args(argv)
    arch = wanted.arch if wanted.kind == "driver" else None
    print(make(Package(wanted.kind, wanted.version, arch, wanted.outcome), wanted.out))
    return 0
