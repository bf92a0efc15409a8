"""The stand-in of vllm-ascend's image for connectors of stack native, SIMULATED on real vLLM."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import docker

from pdinfra.assets import digest
from tests.commands import ROOT
from tests.lab.engine_image import engine_image

SIM = ROOT / "tests" / "sim" / "vllm_ascend"


def image(client: docker.DockerClient, version: str) -> str:
    """Build the stand-in of one version, and the engine's image below it; return its name.

    version: as v0.10.1rc1. Raises docker.errors.BuildError, AssertionError as engine_image does.
    """
    base = engine_image(client)
    name = f"pdinfra-sim/vllm-ascend:{version}-{digest(SIM)}-{base.rpartition('-')[2][:6]}"
    with tempfile.TemporaryDirectory() as folder:
        ignored = shutil.ignore_patterns("__pycache__", "Dockerfile", "README.md")
        shutil.copytree(SIM, folder, dirs_exist_ok=True, ignore=ignored)
        shutil.copy(SIM / "Dockerfile", Path(folder))
        arguments = {"BASE": base, "VERSION": version}
        client.images.build(path=folder, tag=name, buildargs=arguments, rm=True)
    return name
