"""The machine's Docker engine, and its failures as one line with a fix."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.types import NetworkingConfig

from pdinfra.driver.look import FAILED, DriverError

TIMEOUT = 600
"""Seconds that one request may take: building and exporting images is slow on small machines."""


@contextmanager
def engine() -> Iterator[docker.DockerClient]:
    """Yield a client of the machine's engine. Raises DriverError for whatever it refuses."""
    try:
        client = docker.from_env(timeout=TIMEOUT)
        client.ping()
    except DockerException as error:
        fix = "install and start Docker (`make up` does), or set DOCKER_HOST"
        line = f"machine: docker: no engine answers ({error}). Fix: {fix}"
        raise DriverError([line], FAILED) from None
    try:
        yield client
    except APIError as error:
        cause = error.explanation or str(error)
        fix = "mend what the engine names, then run again"
        raise DriverError([f"machine: docker: {cause}. Fix: {fix}"], FAILED) from None
    finally:
        client.close()


def place(
    client: docker.DockerClient, network: str, alias: str, address: IPv4Address
) -> NetworkingConfig:
    """Return a new container's place in a network: its name there and its address."""
    config = NetworkingConfig()
    config["EndpointsConfig"] = {
        network: client.api.create_endpoint_config(aliases=[alias], ipv4_address=str(address))
    }
    return config


def execute(container: Container, words: Sequence[str]) -> tuple[int, str]:
    """Run a command in a container; return its exit code and all that it said."""
    code, output = container.exec_run(list(words))
    said = output if isinstance(output, bytes) else b"".join(output)
    return code or 0, said.decode(errors="replace").strip()


def ask(container: Container, words: Sequence[str]) -> str:
    """Return what a command in a container says, or nothing where the container does not run."""
    try:
        return execute(container, words)[1]
    except (APIError, NotFound):
        return ""


@dataclass(frozen=True)
class File:
    """One file for a container or a build: content, permissions, owner."""

    content: bytes
    mode: int = 0o644
    owner: int = 0


def archive(
    files: Mapping[str, File], folders: Iterable[str] = (), folder_mode: int = 0o755
) -> bytes:
    """Return a tar with these folders and files, the same for the same input."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in folders:
            folder = tarfile.TarInfo(path)
            folder.type, folder.mode = tarfile.DIRTYPE, folder_mode
            tar.addfile(folder)
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(file.content), file.mode
            entry.uid = entry.gid = file.owner
            tar.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()
