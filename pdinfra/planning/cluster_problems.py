"""What an inventory says that openYuanrong's full mode cannot do, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pdinfra.model.addresses import is_ipv4
from pdinfra.model.inventory import ROLES, Host, InstanceSettings, Inventory
from pdinfra.model.problems import Problem
from pdinfra.operator_files import OperatorState
from pdinfra.planning.cluster import deployment_of, node_of
from pdinfra.planning.operator_image import operator_problems
from pdinfra.stacks.base import Engine
from pdinfra.yuanrong import commands, environment

NODES = frozenset({"tensor_parallel_size", "devices", "max_model_len", "shm_gib"})
OF_HOST = NODES | {"memory_gib", "env", "privileged"}
"""Settings of engines that mean something for a whole host."""
OF_ROLE = frozenset({"tensor_parallel_size", "devices", "role", "name"})
"""Settings of engines that mean something for one role, or one entry of pd_instances."""
ELSEWHERE = {
    "etcd_port": "pd_yuanrong_ports: {etcd: ...}",
    "etcd_peer_port": "pd_yuanrong_ports: {etcd_peer: ...}",
    "datasystem_port": "pd_yuanrong_ports: {ds_worker: ...}",
    "router_metrics_port": "",
    "router_internal_port": "",
    "router_policy": "",
    "router_image": "",
    "yuanrong_image": "",
    "drain_seconds": "",
}
"""Settings of the other connector's parts, and where this one has the same thing."""


def cluster_problems(
    inventory: Inventory,
    engines: Mapping[str, Sequence[Engine]],
    model: str,
    state: OperatorState,
) -> list[Problem]:
    """Return everything. model: the models' path; state: the operator's files as they are."""
    found = list(_place_problems(inventory, engines))
    for host in inventory.hosts:
        found += _useless(host)
        if host.roles:
            found += [
                Problem.of(host.name, "openYuanrong", text)
                for text in commands.problems(node_of(host, inventory))
            ]
            found += _environment_problems(host)
    found += _size_problems(inventory, engines)
    deployed = deployment_of(inventory, engines, model)
    npus = sum(len(e.instance.devices) for mine in engines.values() for e in mine)
    found += [
        Problem.of("inventory", "deployment", text)
        for text in environment.problems(replace(deployed, extra={}), npus)
    ]
    return found + operator_problems(inventory.hosts[0], state)


def _place_problems(
    inventory: Inventory, engines: Mapping[str, Sequence[Engine]]
) -> Iterator[Problem]:
    """Yield what is wrong with where things are."""
    entry = inventory.router
    if not engines[entry.name]:
        yield Problem(
            host=entry.name,
            thing="group router",
            cause="openYuanrong's master and the entry are here, but no instance is planned here",
            fix="put a host of prefill, decode or mixed into the group router",
        )
    for host in inventory.hosts:
        if "etcd" in host.groups:
            yield Problem(
                host=host.name,
                thing="group etcd",
                cause="openYuanrong's master has its own etcd, and no other member joins it",
                fix="take the host out of the group etcd",
            )
        if host.roles and not is_ipv4(host.address):
            yield Problem(
                host=host.name,
                thing=f"address {host.address}",
                cause="openYuanrong is told IPv4 addresses",
                fix="set pd_address to the host's address in the network between the hosts",
            )
    paths = {e.model_path: e.instance.host for mine in engines.values() for e in mine}
    if len(paths) > 1:
        seen = " and ".join(f"{path} on {host}" for path, host in paths.items())
        yield Problem(
            host="inventory",
            thing="pd_model_path",
            cause=f"the deployment has one MODEL_PATH for all hosts, but there are {seen}",
            fix="put the model into the same folder everywhere",
        )
    names = {h.settings.model_name for h in inventory.hosts if h.settings.model_name}
    for name in sorted(names - set(paths)):
        yield Problem(
            host="inventory",
            thing=f"pd_model_name {name}",
            cause="the guides' script serves the model by its path, and by no other name",
            fix=f"remove it, or set it to {next(iter(paths), 'the path')}",
        )


def _size_problems(
    inventory: Inventory, engines: Mapping[str, Sequence[Engine]]
) -> Iterator[Problem]:
    """Yield roles whose instances differ: the script knows one size for each."""
    for role in ROLES:
        mine = [e.instance for each in engines.values() for e in each if e.instance.role == role]
        sizes = sorted({instance.tensor_parallel_size for instance in mine})
        if len(sizes) > 1:
            yield Problem(
                host="inventory",
                thing=f"pd_{role}.tensor_parallel_size",
                cause=f"{' and '.join(map(str, sizes))}, but the script has one size for all",
                fix=f"give all {role} instances the same",
            )


def _useless(host: Host) -> Iterator[Problem]:
    """Yield settings that are given and would change nothing."""
    own = host.settings
    for name in sorted(own.model_fields_set & ELSEWHERE.keys()):
        instead = f"use {ELSEWHERE[name]}" if ELSEWHERE[name] else "remove it"
        cause = f"is not of {own.connector}'s deployment"
        yield Problem(host=host.name, thing=f"pd_{name}", cause=cause, fix=instead)
    layers: list[tuple[str, InstanceSettings | None, frozenset[str]]] = [("pd_", own, OF_HOST)]
    layers += [(f"pd_{role}.", getattr(own, role), OF_ROLE) for role in ROLES]
    layers += [(f"pd_instances[{n}].", e, OF_ROLE) for n, e in enumerate(own.instances or [])]
    for prefix, layer, meant in layers:
        given = layer.model_fields_set if layer else set()
        for name in sorted(given & _engine_fields() - meant):
            fix = "remove it; pd_env and pd_max_model_len hold for all instances"
            cause = "the guides' script decides this by itself"
            yield Problem(host=host.name, thing=f"{prefix}{name}", cause=cause, fix=fix)


def _engine_fields() -> set[str]:
    """Return the names of an engine's settings."""
    return set(InstanceSettings.model_fields)


def _environment_problems(host: Host) -> Iterator[Problem]:
    """Yield what must not get into the environment of a node: yr writes it into its log."""
    for name in host.settings.env or {}:
        if environment.SECRET.search(name):
            yield Problem(
                host=host.name,
                thing=f"pd_env.{name}",
                cause="looks like a secret, and yr writes its environment into a readable log",
                fix="leave it out",
            )
