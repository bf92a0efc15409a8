"""The image that an operator of AscendCloud brings, SIMULATED: the vendor's start_servers.sh.

On top of pdinfra's own engine for CPUs, so that what runs below is the real vLLM.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import docker
import yaml
from docker.errors import APIError, ImageNotFound

from pdinfra.assets import digest, load
from pdinfra.lab.names import DEFAULT_NAME, Lab
from pdinfra.lab.status import status
from pdinfra.planning.images import LOCAL, VERSIONS
from tests.commands import ROOT, playbook

SIM = ROOT / "tests" / "sim" / "ascendcloud"
DEFINITION = "vllm-cpu"
TOOLS = "/home/ma-user/AscendCloud/AscendCloud-LLM/llm_tools"
START = f"{TOOLS}/PD_separate/start_servers.sh"
"""In the image, as in the guide."""
VARIABLES = {
    "pd_stack": "ascendcloud",
    "pd_accelerator": "ascend",
    "pd_tensor_parallel_size": 2,
    "pd_devices": [0, 1, 2, 3],
    "pd_prefill": {"port": 8088},
    "pd_decode": {"port": 8089},
    "pd_router_port": 9000,
    # The default, 64, is for hosts with more memory than the lab's.
    "pd_shm_gib": 1,
}
"""A service with two cards for each instance."""


def image(client: docker.DockerClient) -> str:
    """Build the image, and the engine's below it, if they are not there; return its name.

    Raises docker.errors.BuildError, AssertionError with what a failed play said.
    """
    base = _base(client)
    name = f"pdinfra-sim/ascendcloud:{digest(SIM)}-{base.rpartition('-')[2]}"
    if not _present(client, name):
        client.images.build(path=str(SIM), tag=name, buildargs={"BASE": base}, rm=True)
    return name


def publish(client: docker.DockerClient, name: str) -> str:
    """Bring the image into a lab's registry; return the name that its hosts pull it by.

    Raises docker.errors.APIError where there is no such lab.
    """
    built = image(client)
    state = status(client, Lab(name)).document()["registry"]
    pushed = f"{state['push']}/{built}"
    client.images.get(built).tag(pushed)
    for line in client.images.push(pushed, stream=True, decode=True):
        if "error" in line:
            raise APIError(line["error"])
    return f"{state['pull']}/{built}"


def main() -> None:
    """Print the variables of a 2p2d service for a lab's inventory; argument: the lab's name."""
    name = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_NAME
    pulled = publish(docker.from_env(timeout=600), name)
    print(yaml.safe_dump({"pd_image": pulled, **VARIABLES}, sort_keys=False), end="")


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


if __name__ == "__main__":
    main()
