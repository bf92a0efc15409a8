"""A lab's network on the machine, and which addresses and ports are still free."""

from __future__ import annotations

import socket
from ipaddress import IPv4Network
from pathlib import Path

import docker
from docker.errors import NotFound
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from pdinfra.driver.look import FAILED, DriverError
from pdinfra.lab import names
from pdinfra.lab.names import LABEL_HOME, Lab
from pdinfra.lab.state import State

ROUTES = Path("/proc/net/route")


def choose(client: docker.DockerClient, lab: Lab) -> State:
    """Return a new lab's subnet and registry port. Raises DriverError where all are taken."""
    subnet = names.free_subnet(lab.name, _taken(client))
    port = next(filter(_free, names.ports(lab.name)), None)
    if subnet is None or port is None:
        thing = "subnet" if subnet is None else "port for the registry"
        fix = "remove labs or Docker networks that you no longer use"
        line = f"machine: lab {lab.name}: no free {thing}. Fix: {fix}"
        raise DriverError([line], FAILED)
    return State(subnet=subnet, registry_port=port)


def find(client: docker.DockerClient, lab: Lab) -> Network | None:
    """Return the lab's network, if it is there. Raises DriverError if another checkout owns it."""
    try:
        network = client.networks.get(lab.network)
    except NotFound:
        return None
    home = Path((network.attrs.get("Labels") or {}).get(LABEL_HOME, ""))
    if home != lab.home and home.exists():
        cause = f"it belongs to {home}"
        fix = "work in that checkout, or use another --name"
        raise DriverError([f"machine: lab {lab.name}: {cause}. Fix: {fix}"], FAILED)
    return network


def create(client: docker.DockerClient, lab: Lab, state: State) -> None:
    """Make the lab's network. Raises DriverError if its subnet is taken by now."""
    for taken in _taken(client):
        if taken.overlaps(state.subnet):
            cause = f"its subnet {state.subnet} is taken by {taken} on this machine"
            fix = (
                "remove that network or route, or `lab down --purge` and `lab up` for another "
                "subnet, or use another --name"
            )
            raise DriverError([f"machine: lab {lab.name}: {cause}. Fix: {fix}"], FAILED)
    pool = IPAMPool(subnet=str(state.subnet), gateway=str(names.gateway(state.subnet)))
    client.networks.create(
        lab.network,
        driver="bridge",
        ipam=IPAMConfig(pool_configs=[pool]),
        labels={**lab.labels, LABEL_HOME: str(lab.home)},
    )


def _taken(client: docker.DockerClient) -> list[IPv4Network]:
    """Return the subnets of Docker's networks and the machine's own routes."""
    pools = [
        pool["Subnet"]
        for network in client.networks.list()
        for pool in (network.attrs.get("IPAM") or {}).get("Config") or []
        if ":" not in pool.get("Subnet", ":")
    ]
    local = names.routes(ROUTES.read_text()) if ROUTES.is_file() else []
    return [*map(IPv4Network, pools), *local]


def _free(port: int) -> bool:
    """Tell whether nobody listens on a port of the machine's loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
