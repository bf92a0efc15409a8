"""Running what a user runs, and seeing what a user sees."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / "inventories" / "local"
BIN = Path(sys.executable).parent


def lab_name(name: str) -> str:
    """Return the name of a test's lab in this checkout: a lab belongs to the one that made it."""
    return f"{name}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Result:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it printed."""
        return f"{self.out}\n{self.err}"

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


def command(*words: str) -> Result:
    """Run a command in the repository, as in a shell with the environment activated."""
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return Result(done.returncode, done.stdout, done.stderr)


def pdinfra(verb: str, *options: str, inventory: Path = LOCAL) -> Result:
    """Run one verb."""
    return command(sys.executable, "-m", "pdinfra", verb, "-i", str(inventory), *options)


def playbook(name: str, *options: str, inventory: Path = LOCAL) -> Result:
    """Run ansible-playbook by itself."""
    return command("ansible-playbook", name, "-i", str(inventory), *options)


def changed_inventory(folder: Path, **variables: Any) -> Path:
    """Return a copy of inventories/local with some variables set."""
    shutil.copytree(LOCAL, folder / "inventory")
    path = folder / "inventory" / "group_vars" / "all.yml"
    known = yaml.safe_load(path.read_text()) or {}
    path.write_text(yaml.safe_dump(known | variables, allow_unicode=True))
    return folder / "inventory"


def containers() -> dict[str, dict[str, Any]]:
    """Return the inspect documents of the service's containers, by instance id."""
    if shutil.which("docker") is None:
        return {}
    names = command("docker", "ps", "-aq", "--filter", "label=pdinfra.service=pd").out.split()
    if not names:
        return {}
    found = json.loads(command("docker", "inspect", *names).out)
    return {each["Config"]["Labels"]["pdinfra.instance"]: each for each in found}


def identities() -> dict[str, tuple[str, str]]:
    """Return what a restart or a replacement would change: id and StartedAt, by instance id."""
    return {name: (each["Id"], each["State"]["StartedAt"]) for name, each in containers().items()}


@contextmanager
def bringing_up() -> Iterator[None]:
    """Keep other processes' tests from bringing Docker and the built images to the machine too."""
    path = ROOT / ".cache" / "bringing-up"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def processes(container: str = "") -> dict[int, str]:
    """Return command lines by pid, of one container (by id) or of the whole machine."""
    return {pid: line for pid, (group, line) in _running().items() if container in group}


def strays(word: str) -> list[str]:
    """Return command lines with a word that were a container's and are no container's any more."""
    mine = Path("/proc/self/cgroup").read_text()
    found = [each for each in _running().values() if each[0] != mine and word in each[1].lower()]
    known = command("docker", "ps", "--all", "--quiet", "--no-trunc").out.split()
    return [line for group, line in found if not any(each in group for each in known)]


def _running() -> dict[int, tuple[str, str]]:
    """Return the control groups and the command line of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            group = (folder / "cgroup").read_text()
        except OSError:
            continue  # It ended meanwhile.
        found[int(folder.name)] = group, words.decode(errors="replace").strip()
    return found


def wait_until(what: str, seconds: float, holds: Callable[[], bool]) -> float:
    """Wait for a condition, with a limit; return the seconds that it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.5)
    return time.monotonic() - started
