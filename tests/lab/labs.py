"""Running `lab` as a user does."""

from __future__ import annotations

import sys
from pathlib import Path

import docker
from docker.models.containers import Container

from tests.commands import ROOT, Result, command, lab_name

NAME = lab_name("t1")
OTHER = lab_name("t2")
INVENTORY = ROOT / "inventories" / f"lab-{NAME}"


def lab(verb: str, *words: str, name: str = NAME) -> Result:
    """Run one verb of `lab`."""
    return command(sys.executable, "-m", "pdinfra", "lab", verb, *words, "--name", name)


def ansible(*words: str, inventory: Path = INVENTORY) -> Result:
    """Run an Ansible module on the lab's hosts."""
    return command("ansible", "-i", str(inventory), *words)


def containers(client: docker.DockerClient, name: str = NAME) -> dict[str, Container]:
    """Return all containers of a lab by name."""
    found = client.containers.list(all=True, filters={"label": f"pdinfra.lab={name}"})
    return {str(each.name): each for each in found}


def identities(client: docker.DockerClient, name: str = NAME) -> dict[str, tuple[str, str]]:
    """Return what a restart or a replacement would change: id and StartedAt."""
    found = containers(client, name).items()
    return {key: (str(each.id), each.attrs["State"]["StartedAt"]) for key, each in found}
