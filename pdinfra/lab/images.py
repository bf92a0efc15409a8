"""The lab's images: a Debian base, the host, the registry. Each is made once, from apt alone."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import BuildError, DockerException, ImageNotFound

from pdinfra.assets import ROOT, digest
from pdinfra.driver.look import FAILED, DriverError
from pdinfra.lab.engine import File, archive

Say = Callable[[str], None]
"""Where progress goes: one short line at a time."""

REPOSITORY = "pdinfra-lab"
SUITE = "bookworm"
BASE = f"{REPOSITORY}/debian:{SUITE}"
PULL_TIMEOUT = 20
"""Seconds without a word from the registry after which mmdebstrap makes the base instead."""


@dataclass(frozen=True)
class Definition:
    """An image: its name, and the folders of its build context by their path in it."""

    name: str
    folders: Mapping[str, Path]

    @property
    def reference(self) -> str:
        """Name and tag; the tag is a digest of the folders, so a change makes a new image."""
        return f"{REPOSITORY}/{self.name}:{SUITE}-{digest(*self.folders.values())}"

    def context(self) -> bytes:
        """Return the build context as a tar."""
        files = {}
        for prefix, folder in self.folders.items():
            for path in folder.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                    files[f"{prefix}{path.relative_to(folder)}"] = File(path.read_bytes(), mode)
        return archive(files, folders=[prefix for prefix in self.folders if prefix])


HOST = Definition(
    "host", {"": ROOT / "images" / "lab-host", "sim/": ROOT / "tests" / "sim" / "ascend"}
)
REGISTRY = Definition("registry", {"": ROOT / "images" / "lab-registry"})


def ensure(client: docker.DockerClient, say: Say) -> None:
    """Make the images that are not there. Raises DriverError with the build's last words."""
    wanted = [each for each in (HOST, REGISTRY) if not _present(client, each.reference)]
    if not wanted:
        return
    ensure_base(client, say)
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda each: _build(client, each, say), wanted):
            pass


def _present(client: docker.DockerClient, reference: str) -> bool:
    """Tell whether the engine has an image."""
    try:
        client.images.get(reference)
    except ImageNotFound:
        return False
    return True


def _build(client: docker.DockerClient, definition: Definition, say: Say) -> None:
    """Build one image."""
    say(f"building {definition.reference}")
    try:
        client.images.build(
            fileobj=io.BytesIO(definition.context()),
            custom_context=True,
            tag=definition.reference,
            buildargs={"BASE": BASE},
            rm=True,
            forcerm=True,
        )
    except BuildError as error:
        words = [str(line.get("stream", "")).strip() for line in error.build_log]
        last = " | ".join([word for word in words if word][-3:])
        cause = f"{definition.reference} does not build: {error} ({last})"
        fix = "check that this machine's containers reach a Debian mirror, then run again"
        raise DriverError([f"machine: image: {cause}. Fix: {fix}"], FAILED) from None


def ensure_base(client: docker.DockerClient, say: Say) -> None:
    """Make the base: what is there, else debian from a registry, else mmdebstrap."""
    if _present(client, BASE):
        return
    upstream = f"debian:{SUITE}"
    say(f"fetching {upstream}")
    if _present(client, upstream) or _pulled(upstream):
        client.images.get(upstream).tag(BASE)
        return
    say("no registry gives it; making it with mmdebstrap")
    if shutil.which("mmdebstrap") is None:
        _run("apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "base.tar")
        _run("mmdebstrap", "--quiet", "--variant=minbase", *_LEAN, SUITE, path, *_mirror())
        client.api.import_image_from_file(path, repository=BASE.split(":")[0], tag=SUITE)


_LEAN = [
    f"--dpkgopt=path-{rule}"
    for rule in (
        "exclude=/usr/share/man/*",
        "exclude=/usr/share/locale/*",
        "exclude=/usr/share/doc/*",
        "include=/usr/share/doc/*/copyright",
    )
]


def _pulled(reference: str) -> bool:
    """Tell whether a registry gave an image."""
    try:
        hasty = docker.from_env(timeout=PULL_TIMEOUT)
        hasty.images.pull(reference)
    except (DockerException, OSError):
        return False
    return True


def _mirror() -> list[str]:
    """Return the machine's own Debian mirror, if it is a Debian machine."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    command += ["Created-By: Packages", "Origin: Debian", "Label: Debian"]
    if shutil.which("apt-get") is None:
        return []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()[:1]


def _run(*words: str) -> None:
    """Run a command that makes the base. Raises DriverError with its last words."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        cause = f"`{words[0]}` ended with {done.returncode}: {done.stderr.strip()[-300:]}"
    except OSError as error:
        done, cause = None, f"`{words[0]}` cannot run: {error.strerror}"
    if done is None or done.returncode:
        fix = f"make `docker pull debian:{SUITE}` work, or install mmdebstrap, then run again"
        raise DriverError([f"machine: image: {cause}. Fix: {fix}"], FAILED)
