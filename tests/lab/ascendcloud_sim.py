"""The image that an operator of AscendCloud brings, SIMULATED: the vendor's start_servers.sh.

On top of pdinfra's own engine for CPUs, so that what runs below is the real vLLM.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import docker
import yaml
from docker.errors import ImageNotFound

from pdinfra.assets import digest, load
from pdinfra.planning.images import LOCAL, VERSIONS
from tests.commands import ROOT, playbook

SIM = ROOT / "tests" / "sim" / "ascendcloud"
DEFINITION = "vllm-cpu"
TOOLS = "/home/ma-user/AscendCloud/AscendCloud-LLM/llm_tools"
START = f"{TOOLS}/PD_separate/start_servers.sh"
"""In the image, as in the guide."""


def image(client: docker.DockerClient) -> str:
    """Build the image, and the engine's below it, if they are not there; return its name.

    Raises docker.errors.BuildError, AssertionError with what a failed play said.
    """
    base = _base(client)
    name = f"pdinfra-sim/ascendcloud:{digest(SIM)}-{base.rpartition('-')[2]}"
    if not _present(client, name):
        client.images.build(path=str(SIM), tag=name, buildargs={"BASE": base}, rm=True)
    return name


def _base(client: docker.DockerClient) -> str:
    """Return pdinfra's image of engines for CPUs; its own role builds it where it is missing."""
    name = f"{LOCAL}/{DEFINITION}:{VERSIONS[DEFINITION]}-{load().definitions[DEFINITION]}"
    if _present(client, name):
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


def _present(client: docker.DockerClient, name: str) -> bool:
    """Tell whether the engine has an image."""
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True
