"""A lab with real engines on it, shared by the tests of services across hosts."""

from __future__ import annotations

import json
import sys
from typing import Any

import docker
import yaml

from tests.commands import ROOT, Result, command, lab_name, pdinfra
from tests.lab import registry

LAB = lab_name("svc")
INVENTORY = ROOT / "inventories" / f"lab-{LAB}"
HOSTS = INVENTORY / "hosts.yml"
VARIABLES = INVENTORY / "group_vars" / "all.yml"
Identities = dict[str, tuple[str, str]]


def lab(verb: str, *words: str) -> Result:
    """Run one verb of `lab`."""
    return command(sys.executable, "-m", "pdinfra", "lab", verb, *words, "--name", LAB)


def on_host(host: str, *words: str) -> Result:
    """Run a command on a host, without Ansible's ways of getting there."""
    return command("docker", "exec", f"pdinfra-lab-{LAB}-{host}", *words)


def publish(client: docker.DockerClient, image: str) -> str:
    """Push an image of this machine to the lab's registry; return its name on the hosts."""
    return registry.publish(client, image, LAB)


def identities(hosts: int) -> Identities:
    """Return container id and StartedAt by instance id, of the first so many hosts."""
    found = {}
    for n in range(1, hosts + 1):
        names = on_host(f"node{n}", "docker", "ps", "-aq").out.split()
        if not names:
            continue
        for each in json.loads(on_host(f"node{n}", "docker", "inspect", *names).out):
            instance = each["Config"]["Labels"]["pdinfra.instance"]
            found[instance] = (each["Id"], each["State"]["StartedAt"])
    return found


def up(*options: str) -> Result:
    """Converge."""
    return pdinfra("up", "--yes", "--json", *options, inventory=INVENTORY)


def address(host: str) -> str:
    """Return a host's address."""
    hosts = yaml.safe_load(HOSTS.read_text())["all"]["hosts"]
    return str(hosts[host]["ansible_host"])


def put_into_groups(host: str, *names: str) -> None:
    """Put a host into exactly these groups; it stays in the inventory."""
    inventory: dict[str, Any] = yaml.safe_load(HOSTS.read_text())
    children = inventory["all"]["children"]
    for name in {*children, *names}:
        hosts = children.setdefault(name, {}).setdefault("hosts", {})
        hosts.pop(host, None)
        hosts.update({host: None} if name in names else {})
    HOSTS.write_text(yaml.safe_dump(inventory))


def set_host(host: str, **variables: Any) -> None:
    """Set variables of one host."""
    inventory: dict[str, Any] = yaml.safe_load(HOSTS.read_text())
    inventory["all"]["hosts"][host] |= variables
    HOSTS.write_text(yaml.safe_dump(inventory))


def change_variables(**variables: Any) -> None:
    """Set variables of all hosts; None takes one away."""
    known = {**yaml.safe_load(VARIABLES.read_text()), **variables}
    VARIABLES.write_text(yaml.safe_dump({k: v for k, v in known.items() if v is not None}))
