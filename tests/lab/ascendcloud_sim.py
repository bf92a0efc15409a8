"""The image that an operator of AscendCloud brings, SIMULATED: the vendor's start_servers.sh.

On top of pdinfra's own engine for CPUs, so that what runs below is the real vLLM.
"""

from __future__ import annotations

import sys

import docker
import yaml

from pdinfra.assets import digest
from pdinfra.lab.names import DEFAULT_NAME
from tests.commands import ROOT
from tests.lab.engine_image import engine_image, present
from tests.lab.registry import publish

SIM = ROOT / "tests" / "sim" / "ascendcloud"
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
    base = engine_image(client)
    name = f"pdinfra-sim/ascendcloud:{digest(SIM)}-{base.rpartition('-')[2]}"
    if not present(client, name):
        client.images.build(path=str(SIM), tag=name, buildargs={"BASE": base}, rm=True)
    return name


def main() -> None:
    """Print the variables of a 2p2d service for a lab's inventory; argument: the lab's name."""
    lab = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_NAME
    client = docker.from_env(timeout=600)
    pulled = publish(client, image(client), lab)
    print(yaml.safe_dump({"pd_image": pulled, **VARIABLES}, sort_keys=False), end="")


if __name__ == "__main__":
    main()
