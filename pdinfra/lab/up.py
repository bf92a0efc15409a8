"""`lab up`: make what is missing, leave alone what is there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import docker
from docker.models.containers import Container

from pdinfra.driver.look import FAILED, DriverError
from pdinfra.lab import files, hosts, images, keys, names, network, registry
from pdinfra.lab import state as memory
from pdinfra.lab.hosts import Npus
from pdinfra.lab.images import HOST, Say
from pdinfra.lab.names import LABEL_NPUS, Lab
from pdinfra.lab.state import State


def up(client: docker.DockerClient, lab: Lab, count: int, npus: Npus, say: Say) -> State:
    """Make hosts node1 to node<count> and the registry run, and write the inventory.

    Hosts that run keep running, untouched; more hosts than ``count`` stay. Raises DriverError.
    """
    with _timed("images", say):
        images.ensure(client, say)
    with _timed("network, keys, registry", say):
        state = _foundation(client, lab)
        registry.ensure(client, lab, state)
    wanted = names.nodes(count)
    with _timed("hosts", say):
        before = hosts.find(client, lab)
        _explain(before, wanted, npus, say)
        missing = [node for node in wanted if node not in before]
        privileged = bool(missing) and hosts.privileged(client)

        def bring(node: str) -> None:
            if node in missing:
                hosts.create(client, lab, state, node, npus, privileged)
            if hosts.revive(client, lab, state, node) and node not in missing:
                say(f"{node} was not running or cut off: it is back")
            hosts.wait(client.containers.get(lab.container(node)), node)

        with ThreadPoolExecutor(max_workers=names.MAX_HOSTS) as pool:
            list(pool.map(bring, wanted))
    with _timed("known_hosts and inventory", say):
        found = hosts.find(client, lab)
        addresses = {node: str(names.address(state.subnet, node)) for node in found}
        _know(lab, addresses, found)
        files.write(lab, state, addresses, say)
    return memory.load(lab) or state


def _foundation(client: docker.DockerClient, lab: Lab) -> State:
    """Make memory, keys and network if they are not there. Raises DriverError."""
    known = network.find(client, lab)
    state = memory.load(lab)
    if known is not None and state is None:
        cause = f"its network is there, its keys in {lab.home} are gone"
        fix = f"`lab down --name {lab.name}`, then `lab up` again"
        raise DriverError([f"machine: lab {lab.name}: {cause}. Fix: {fix}"], FAILED)
    if state is None:
        state = network.choose(client, lab)
        memory.save(lab, state)
    keys.ssh_key(lab.home)
    keys.certificates(lab.home)
    if known is None:
        network.create(client, lab, state)
    return state


def _explain(before: Mapping[str, Container], wanted: list[str], npus: Npus, say: Say) -> None:
    """Say what hosts that are there keep although something else was asked for."""
    more = [node for node in before if node not in wanted]
    if more:
        say(f"{', '.join(more)} stay: `lab up` removes no host")
    there = [node for node in before if node in wanted]
    older = [n for n in there if before[n].attrs["Config"]["Image"] != HOST.reference]
    if older:
        say(f"{', '.join(older)} run an older image: `lab down` and `lab up` for the new one")
    for node in there:
        had = before[node].labels.get(LABEL_NPUS, "0")
        if had != str(npus.count):
            say(f"{node} keeps its {had} NPUs: they are chosen when a host is made")


def _know(lab: Lab, addresses: Mapping[str, str], found: Mapping[str, Container]) -> None:
    """Write known_hosts with the keys that the running hosts themselves show."""
    path = lab.home / "known_hosts"
    shown = {n: hosts.public_key(each, n) for n, each in found.items() if each.status == "running"}
    before = path.read_text() if path.is_file() else ""
    path.write_text(keys.known_hosts(before, addresses, shown))


@contextmanager
def _timed(what: str, say: Say) -> Iterator[None]:
    """Say how long something took."""
    started = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - started:.1f} s")
