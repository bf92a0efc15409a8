"""`lab down`: remove what belongs to one lab, and with purge what all labs share."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from pdinfra.lab import files, hosts, names, network
from pdinfra.lab import state as memory
from pdinfra.lab.images import REPOSITORY, Say
from pdinfra.lab.names import BLOBS, LABEL, Lab


def down(
    client: docker.DockerClient, lab: Lab, say: Say, keep_images: bool = False, purge: bool = False
) -> list[str]:
    """Remove the lab's containers, network and volumes; return the hosts that were removed.

    keep_images: the volumes below the hosts' /var/lib/docker stay for the next `lab up`.
    purge: keys, the registry's images and the lab's own images go too, as far as no other lab
    uses them. Raises DriverError if the lab belongs to another checkout.
    """
    known = network.find(client, lab)
    mine: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={lab.name}"}
    found = hosts.find(client, lab)
    removed = list(found)
    if keep_images:
        for host in found.values():
            _empty(host)
    # A host takes seconds to end, and its images are hundreds of thousands of files.
    with ThreadPoolExecutor(max_workers=names.MAX_HOSTS) as pool:
        containers = client.containers.list(all=True, filters=mine)
        list(pool.map(lambda each: each.remove(force=True, v=True), containers))
        if known is not None:
            known.remove()
        volumes = client.volumes.list(filters=mine)
        gone = [each for each in volumes if not keep_images or each.name == lab.shared]
        list(pool.map(lambda each: each.remove(), gone))
    if (state := memory.load(lab)) is not None:
        for path in files.remove(lab, state):
            say(f"{path} stays: it was edited")
    if purge:
        shutil.rmtree(lab.home, ignore_errors=True)
        _purge(client, say)
    return removed


def _empty(host: Container) -> None:
    """Remove a running host's containers: only its images are to be found again."""
    if host.status == "running":
        host.exec_run(["sh", "-c", "docker ps -aq | xargs --no-run-if-empty docker rm -f"])


def _purge(client: docker.DockerClient, say: Say) -> None:
    """Remove what labs share; say what another lab still uses."""
    try:
        client.volumes.get(BLOBS).remove()
    except NotFound:
        pass
    except APIError:
        say(f"volume {BLOBS} stays: another lab uses it")
    labs = client.containers.list(all=True, filters={"label": LABEL})
    used = {each.attrs["Image"] for each in labs}
    for image in client.images.list():
        tags = [tag for tag in image.tags if tag.startswith(f"{REPOSITORY}/")]
        if tags and image.id in used:
            say(f"image {tags[0]} stays: another lab uses it")
        else:
            for tag in tags:
                client.images.remove(tag)
