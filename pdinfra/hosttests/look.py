"""Look at one host through testinfra: one shell script, one round trip."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from testinfra.utils.ansible_runner import get_ansible_config, get_ansible_host

from pdinfra.driver.hosts import connections
from pdinfra.hosttests.seen import Seen, read
from pdinfra.model.plan import HostPlan

Look = Callable[[HostPlan], Seen]

SCRIPT = r"""
section() { printf '\n@@ %s\n' "$*"; }
section engine
docker version --format '{{json .Server}}' 2>&1
section logging
docker info --format '{{.LoggingDriver}}' 2>/dev/null
section daemon
cat /etc/docker/daemon.json 2>/dev/null
section containers
ids=$(docker ps --all --quiet --no-trunc --filter "label=pdinfra.service=$SERVICE" 2>/dev/null)
[ -z "$ids" ] || docker inspect $ids
section origins
[ -z "$ids" ] || docker image inspect $(docker inspect --format '{{.Image}}' $ids) 2>/dev/null
for ref in $IMAGES; do
    section image "$ref"
    docker image inspect "$ref" 2>/dev/null
done
for id in $ids; do
    section process "$id"
    pid=$(docker inspect --format '{{.State.Pid}}' "$id")
    [ "$pid" = 0 ] || grep -E '^(Uid|Gid|Groups|CapEff):' "/proc/$pid/status"
done
section paths
for path in $PATHS; do
    stat -L --printf '%a\t%u\t%g\t%F\t%n\n' "$path" 2>/dev/null
done
for path in $TREES; do
    section tree "$path"
    find -L "$path" -printf '%m\t%U\t%G\t%y\t%p\n' 2>/dev/null
done
for name in $NAMES; do
    section name "$name"
    getent ahosts "$name"
done
section tcp
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null
section sockets
find /proc/[0-9]*/fd -maxdepth 1 -lname 'socket:*' -printf '%p %l\n' 2>/dev/null
section groups
grep -H '' /proc/[0-9]*/cgroup /proc/[0-9]*/comm 2>/dev/null
section end
"""
"""Prints sections; `read` knows their form. Only what every Linux host with Docker has is used."""


def command(node: HostPlan) -> str:
    """Return the script with what the plan wants to know of a host."""
    mounts = [mount.source for c in node.containers for mount in c.spec.mounts]
    devices = [device for c in node.containers for device in c.spec.devices]
    files = [file.path for file in node.files]
    trees = [model.path for model in node.models]
    trees += [file.path for file in node.files if file.tree]
    values = {
        "SERVICE": [node.observe.service],
        "IMAGES": [image.ref for image in node.images],
        "PATHS": [*mounts, *devices, *files],
        "TREES": trees,
        "NAMES": [port.address for port in node.ports if not _is_address(port.address)],
    }
    lines = [
        f"{name}={shlex.quote(' '.join(dict.fromkeys(words)))}" for name, words in values.items()
    ]
    return "\n".join([*lines, SCRIPT])


def looker(inventory: Path) -> Look:
    """Return what looks at a host of an inventory, with the inventory's connection and become."""
    variables = connections(inventory)
    known = {"_meta": {"hostvars": variables}, "all": {"hosts": list(variables)}}
    config = get_ansible_config()

    def look(node: HostPlan) -> Seen:
        host: Any = get_ansible_host(config, known, node.name)
        if host is None:
            kind = variables[node.name].get("ansible_connection")
            return Seen(error=f"testinfra has no connection {kind}; it has ssh, local and docker")
        try:
            done = host.run("sh -c %s", command(node))
        except (RuntimeError, OSError) as error:
            return Seen(error=_short(error))
        found = read(done.stdout)
        return found or Seen(error=done.stderr.strip() or f"exit code {done.rc}")

    return look


def _is_address(text: str) -> bool:
    """Tell an IP address from a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _short(error: Exception) -> str:
    """Return what ssh said, out of testinfra's account of the whole command."""
    said = getattr(error.args[0] if error.args else None, "stderr", "")
    lines = str(said or error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
