"""A lab's hosts: systemd containers, made, started and waited for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import docker
from docker.errors import APIError
from docker.models.containers import Container
from docker.types import HostConfig

from pdinfra.driver.look import FAILED, DriverError
from pdinfra.lab import names
from pdinfra.lab.engine import File, archive, ask, place
from pdinfra.lab.images import HOST
from pdinfra.lab.names import LABEL, LABEL_NODE, LABEL_NPUS, QUAY, SHARED, Lab
from pdinfra.lab.state import State

USER = "ops"
USER_ID = 1000
"""The user's id in images/lab-host/Dockerfile."""
BOOT_LIMIT = 60
"""Seconds until systemd must have booted; measured: one, eight for eight hosts at once."""
BOOTED = ("running", "degraded")


@dataclass(frozen=True)
class Npus:
    """Simulated Ascend cards of a host. ``driver``: version or ``none``; empty: the simulator's."""

    count: int = 0
    profile: str = "a2-98"
    driver: str = ""


def find(client: docker.DockerClient, lab: Lab) -> dict[str, Container]:
    """Return the lab's hosts by name, in their order, whatever their state."""
    found = client.containers.list(all=True, filters={"label": [f"{LABEL}={lab.name}", LABEL_NODE]})
    hosts = {each.labels[LABEL_NODE]: each for each in found}
    return dict(sorted(hosts.items(), key=lambda item: names.number(item[0])))


def privileged(client: docker.DockerClient) -> bool:
    """Tell whether the engine can grant --privileged.

    It cannot where the machine itself lacks a capability, as in some virtual machines (measured:
    "unable to apply caps: operation not permitted").
    """
    probe = client.containers.create(HOST.reference, entrypoint="/bin/true", privileged=True)
    try:
        probe.start()
    except APIError:
        return False
    finally:
        probe.remove(force=True, v=True)
    return True


def create(
    client: docker.DockerClient, lab: Lab, state: State, node: str, npus: Npus, privileged: bool
) -> Container:
    """Make one host's container, with the lab's keys in it; it is not started yet."""
    api = client.api
    volumes = {lab.volume(node): "/var/lib/docker", lab.shared: SHARED}
    for volume in volumes:
        client.volumes.create(volume, labels=lab.labels)
    made = api.create_container(
        HOST.reference,
        name=lab.container(node),
        hostname=node,
        labels={**lab.labels, LABEL_NODE: node, LABEL_NPUS: str(npus.count)},
        environment={
            "LAB_NPUS": str(npus.count),
            "LAB_NPU_PROFILE": npus.profile,
            "LAB_NPU_DRIVER": npus.driver,
            "LAB_INDEX": str(names.number(node)),
        },
        host_config=_host_config(api, volumes, privileged),
        networking_config=place(client, lab.network, node, names.address(state.subnet, node)),
    )
    container = client.containers.get(made["Id"])
    files = {
        f"home/{USER}/.ssh/authorized_keys": File(
            (lab.home / "id_ed25519.pub").read_bytes(), 0o600, USER_ID
        ),
        f"etc/docker/certs.d/{QUAY}/ca.crt": File((lab.home / "ca.crt").read_bytes()),
    }
    container.put_archive("/", archive(files))
    # As /tmp: engines that write there run as a user of their own.
    container.put_archive("/", archive({}, [SHARED.lstrip("/")], 0o1777))
    return container


def connect(client: docker.DockerClient, lab: Lab, state: State, node: str) -> None:
    """Give a host its place in the lab's network back: its name and its address."""
    client.networks.get(lab.network).connect(
        lab.container(node),
        aliases=[node],
        ipv4_address=str(names.address(state.subnet, node)),
    )


def _host_config(api: docker.APIClient, volumes: Mapping[str, str], privileged: bool) -> HostConfig:
    """Return what systemd and an engine inside a container need, and not more than is granted.

    volumes: where they are in the host, by name.
    """
    config = api.create_host_config(
        binds=[f"{volume}:{path}" for volume, path in volumes.items()],
        tmpfs={"/run": "", "/run/lock": "", "/tmp": "exec"},
        cgroupns="private",
        # A reboot ends the first process; a host that was killed stays down (measured).
        restart_policy={"Name": "unless-stopped"},
        device_cgroup_rules=["a *:* rwm"],
        privileged=privileged,
        cap_add=None if privileged else ["ALL"],
        cap_drop=None if privileged else ["SYS_RESOURCE"],
        security_opt=None if privileged else ["seccomp=unconfined", "apparmor=unconfined"],
    )
    if not privileged:
        # `--security-opt systempaths=unconfined` exists in Docker's command line only; this is
        # what it sends.
        config["MaskedPaths"] = []
        config["ReadonlyPaths"] = []
    return config


def revive(client: docker.DockerClient, lab: Lab, state: State, node: str) -> bool:
    """Start, unpause or reconnect a host if it needs it; tell whether it did."""
    container = client.containers.get(lab.container(node))
    acted = False
    if container.status == "paused":
        container.unpause()
        acted = True
    if lab.network not in container.attrs["NetworkSettings"]["Networks"]:
        connect(client, lab, state, node)
        acted = True
    if container.status not in ("running", "paused"):
        container.start()
        acted = True
    return acted


def wait(container: Container, node: str) -> str:
    """Return systemd's state when it has booted. Raises DriverError with what the host said."""
    until = time.monotonic() + BOOT_LIMIT
    while time.monotonic() < until:
        state = ask(container, ["systemctl", "is-system-running"])
        if state in BOOTED:
            return state
        container.reload()
        if container.status != "running":
            break
        time.sleep(0.1)
    said = container.logs(tail=3).decode(errors="replace").strip() or "nothing"
    cause = f"systemd did not boot within {BOOT_LIMIT} s; its container is {container.status}"
    fix = f"see `docker logs {container.name}`"
    raise DriverError([f"{node}: host: {cause} and said: {said}. Fix: {fix}"], FAILED)


def public_key(container: Container, node: str) -> str:
    """Return the host's own SSH key. Raises DriverError if it made none."""
    key = ask(container, ["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])
    if not key.startswith("ssh-ed25519 "):
        fix = f"see `docker exec {container.name} systemctl status ssh-hostkeys`"
        raise DriverError([f"{node}: ssh: the host made no key ({key}). Fix: {fix}"], FAILED)
    return key
