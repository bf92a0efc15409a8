"""The real programs that the tests of openYuanrong need, got once and kept in .cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.commands import ROOT, bringing_up

KEPT = ROOT / ".cache" / "yuanrong"
DATASYSTEM = "openyuanrong-datasystem==0.8.1"


def etcd() -> Path:
    """Return a folder with etcd and etcdctl: the machine's, or the distribution's packages."""
    here = shutil.which("etcd")
    if here and shutil.which("etcdctl"):
        return Path(here).parent
    folder = KEPT / "etcd" / "usr" / "bin"
    if not (folder / "etcdctl").exists():
        packages = KEPT / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        # Not installed: a service of the machine would start, on the ports of others. Bringing up
        # fetches the lists of packages.
        with bringing_up():
            _run("apt-get", "download", "etcd-server", "etcd-client", cwd=packages)
        for package in sorted(packages.glob("etcd-*.deb")):
            _run("dpkg", "-x", str(package), str(KEPT / "etcd"))
    return folder


def datasystem() -> Path:
    """Return a Python environment with the data system; beside openyuanrong it does not load."""
    folder = KEPT / "datasystem"
    if not (folder / "installed").exists():
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", DATASYSTEM)
        (folder / "installed").touch()
    return folder


def datasystem_folder() -> Path:
    """Return the package's folder with the worker's program."""
    found = list((datasystem() / "lib").glob("python*/site-packages/yr/datasystem"))
    return found[0]


def _run(*words: str, cwd: Path | None = None) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}\n{done.stderr}"
