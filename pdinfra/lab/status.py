"""`lab status`: the lab as it is now, as data."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
from docker.models.containers import Container
from pydantic import BaseModel, ConfigDict

from pdinfra.lab import faults, files, names, registry
from pdinfra.lab import state as memory
from pdinfra.lab.engine import ask
from pdinfra.lab.hosts import BOOTED, find
from pdinfra.lab.names import QUAY, Lab
from pdinfra.lab.state import State


class RegistryStatus(BaseModel):
    """The registry: its container's state and its name from the machine and from the hosts."""

    model_config = ConfigDict(frozen=True)

    push: str
    pull: str
    state: str


class HostStatus(BaseModel):
    """One host. ``systemd`` and ``engine`` are empty where the host cannot be asked."""

    model_config = ConfigDict(frozen=True)

    name: str
    address: str
    state: str
    systemd: str
    engine: str
    groups: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def booted(self) -> bool:
        """Tell whether the host runs as a host does."""
        return self.systemd in BOOTED


class LabStatus(BaseModel):
    """One lab; no hosts and no registry where it is down."""

    model_config = ConfigDict(frozen=True)

    name: str
    inventory: str
    registry: RegistryStatus | None
    hosts: tuple[HostStatus, ...]

    def document(self) -> dict[str, Any]:
        """Return what `lab status --json` prints."""
        return self.model_dump(mode="json")

    @property
    def healthy(self) -> bool:
        """Tell whether it is up and every host has booted. Faults count where they stop a host."""
        return bool(self.hosts) and all(host.booted for host in self.hosts)


def status(client: docker.DockerClient, lab: Lab) -> LabStatus:
    """Look at a lab; all hosts at once."""
    inventory = str(lab.inventory.relative_to(lab.root))
    state = memory.load(lab)
    if state is None:
        return LabStatus(name=lab.name, inventory=inventory, registry=None, hosts=())
    found = find(client, lab)
    groups = files.groups(lab)
    with ThreadPoolExecutor(max_workers=names.MAX_HOSTS) as pool:
        rows = pool.map(
            lambda node: _host(lab, state, node, found[node], tuple(groups.get(node, ()))), found
        )
        return LabStatus(
            name=lab.name,
            inventory=inventory,
            registry=_registry(client, lab, state),
            hosts=tuple(rows),
        )


def _registry(client: docker.DockerClient, lab: Lab, state: State) -> RegistryStatus | None:
    """Return the registry's row."""
    container = registry.find(client, lab)
    if container is None:
        return None
    return RegistryStatus(push=registry.push_prefix(state), pull=QUAY, state=container.status)


def _host(
    lab: Lab, state: State, node: str, container: Container, groups: tuple[str, ...]
) -> HostStatus:
    """Return one host's row."""
    runs = container.status == "running"
    said = ask(container, ["systemctl", "is-system-running"]) if runs else ""
    engine = ask(container, ["systemctl", "is-active", "docker"]) if runs else ""
    return HostStatus(
        name=node,
        address=str(names.address(state.subnet, node)),
        state=container.status,
        systemd=said,
        engine=engine,
        groups=groups,
        faults=tuple(faults.active(container, lab.network)),
    )
