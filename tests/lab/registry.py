"""Bringing an image of this machine to a lab's hosts."""

from __future__ import annotations

import docker
from docker.errors import APIError

from pdinfra.lab.names import Lab
from pdinfra.lab.status import status


def publish(client: docker.DockerClient, image: str, lab: str) -> str:
    """Push an image into a lab's registry; return the name that its hosts pull it by.

    Raises docker.errors.APIError with what the registry said.
    """
    registry = status(client, Lab(lab)).document()["registry"]
    pushed = f"{registry['push']}/{image}"
    client.images.get(image).tag(pushed)
    for line in client.images.push(pushed, stream=True, decode=True):
        if "error" in line:
            raise APIError(line["error"])
    return f"{registry['pull']}/{image}"
