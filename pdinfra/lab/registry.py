"""A lab's image registry: answers as quay.io inside, takes pushes on the machine's loopback."""

from __future__ import annotations

import ssl
import time

import docker
import httpx
from docker.errors import NotFound
from docker.models.containers import Container

from pdinfra.driver.look import FAILED, DriverError
from pdinfra.lab import names
from pdinfra.lab.engine import File, archive, place
from pdinfra.lab.images import REGISTRY
from pdinfra.lab.names import BLOBS, LABEL, QUAY, Lab
from pdinfra.lab.state import State

LIMIT = 30
"""Seconds until a started registry must answer; measured: below one."""


def find(client: docker.DockerClient, lab: Lab) -> Container | None:
    """Return the registry's container, if it is there."""
    try:
        return client.containers.get(lab.registry)
    except NotFound:
        return None


def ensure(client: docker.DockerClient, lab: Lab, state: State) -> None:
    """Make the registry run and answer. Raises DriverError if it does not.

    One of an older definition is replaced: its images are in a volume, nothing is lost.
    """
    container = find(client, lab)
    if container is not None and container.attrs["Config"]["Image"] != REGISTRY.reference:
        container.remove(force=True)
        container = None
    if container is None:
        container = _create(client, lab, state)
    if container.status != "running":
        container.start()
    _wait(container, lab, state)


def push_prefix(state: State) -> str:
    """Return what an image's name begins with when it is pushed from the machine."""
    return f"127.0.0.1:{state.registry_port}"


def _create(client: docker.DockerClient, lab: Lab, state: State) -> Container:
    """Make the container, with the lab's certificate in it."""
    api = client.api
    client.volumes.create(BLOBS, labels={LABEL: ""})
    made = api.create_container(
        REGISTRY.reference,
        name=lab.registry,
        hostname="registry",
        labels=lab.labels,
        ports=[443],
        host_config=api.create_host_config(
            binds=[f"{BLOBS}:/var/lib/registry"],
            port_bindings={443: ("127.0.0.1", state.registry_port)},
        ),
        networking_config=place(client, lab.network, QUAY, names.registry_address(state.subnet)),
    )
    container = client.containers.get(made["Id"])
    files = {
        "tls.crt": File((lab.home / "tls.crt").read_bytes()),
        "tls.key": File((lab.home / "tls.key").read_bytes(), 0o600),
    }
    container.put_archive("/etc/docker/registry", archive(files))
    return container


def _wait(container: Container, lab: Lab, state: State) -> None:
    """Wait until the registry answers over TLS with the lab's certificate."""
    trust = ssl.create_default_context(cafile=str(lab.home / "ca.crt"))
    until = time.monotonic() + LIMIT
    while True:
        try:
            httpx.get(f"https://{push_prefix(state)}/v2/", verify=trust).raise_for_status()
        except httpx.HTTPError as error:
            if time.monotonic() > until:
                said = container.logs(tail=3).decode(errors="replace").strip()
                cause = f"no answer within {LIMIT} s ({error}); it said: {said}"
                fix = f"see `docker logs {lab.registry}`"
                raise DriverError(
                    [f"{lab.registry}: registry: {cause}. Fix: {fix}"], FAILED
                ) from None
            time.sleep(0.1)
        else:
            return
