"""pdinfra's own image of engines for CPUs, below the simulated images of vendors."""

from __future__ import annotations

import tempfile
from pathlib import Path

import docker
import yaml
from docker.errors import ImageNotFound

from pdinfra.assets import load
from pdinfra.planning.images import LOCAL, VERSIONS
from tests.commands import ROOT, playbook

DEFINITION = "vllm-cpu"


def engine_image(client: docker.DockerClient) -> str:
    """Return the image's name; its own role builds it on this machine where it is missing.

    Raises AssertionError with what the play said.
    """
    name = f"{LOCAL}/{DEFINITION}:{VERSIONS[DEFINITION]}-{load().definitions[DEFINITION]}"
    if present(client, name):
        return name
    play = {
        "name": "The engines' image, on this machine",
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": True,
        "gather_subset": ["min"],
        "vars": {
            "image_images": [{"ref": name, "source": "build", "definition": DEFINITION}],
            "image_definitions_dir": str(ROOT / "images"),
        },
        "roles": ["image"],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine-image.yml"
        path.write_text(yaml.safe_dump([play]), encoding="utf-8")
        done = playbook(str(path))
    assert done.code == 0, done.text
    return name


def present(client: docker.DockerClient, name: str) -> bool:
    """Tell whether the engine has an image."""
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True
