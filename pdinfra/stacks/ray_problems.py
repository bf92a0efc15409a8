"""What an inventory asks of Ray that Ray cannot do, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from pydantic import BaseModel

from pdinfra.model.addresses import is_ip, is_loopback
from pdinfra.model.inventory import Host, Inventory
from pdinfra.model.problems import Problem
from pdinfra.stacks.base import Engine, cpu_env
from pdinfra.stacks.ray_versions import version_problems
from pdinfra.stacks.ray_words import unreadable

OF_NATIVE = ("multi_connectors", "kv_path", "offload_gib")
OF_ROUTER = (
    "router_metrics_port",
    "router_internal_port",
    "router_policy",
    "drain_seconds",
)
"""Ray Serve's own proxy is the entry: it has none of these."""
OF_PORTS = ("port", "kv_port", "internal_port")
"""Replicas have no ports of their own: Ray gives them theirs, of the ranges that are planned."""
CONNECTOR = "NixlConnector"


def problems(inventory: Inventory, engines: Sequence[Engine]) -> list[Problem]:
    """Return everything. engines: as they are placed."""
    found = [*_host_problems(inventory), *version_problems(inventory)]
    if inventory.service.ray_mode == "serve":
        found += _serve_problems(inventory)
        found += _role_problems(engines)
        found += _node_problems(engines)
    else:
        found += _executor_problems(inventory, engines)
    return found


def _host_problems(inventory: Inventory) -> Iterator[Problem]:
    """Yield what is wrong with the hosts of the cluster, whatever is on it."""
    first: dict[str, str] = {}
    images: dict[str, str] = {}
    for host in inventory.hosts:
        settings = host.settings
        other = first.setdefault(host.address, host.name)
        if other != host.name:
            cause = f"is the same machine as {other}, and Ray has one node on a machine"
            fix = f"put it all on {other}: pd_instances can have several entries"
            yield Problem(host=host.name, thing=f"address {host.address}", cause=cause, fix=fix)
        if not is_ip(host.address) or is_loopback(host.address):
            # Measured, 2.60: told 127.0.0.1, a node has the machine's other address all the same.
            cause = "Ray's nodes are told IP addresses"
            cause += ", and take no loopback one" if is_loopback(host.address) else ""
            yield Problem(
                host=host.name,
                thing=f"address {host.address}",
                cause=cause,
                fix="set pd_address to the host's address in the network between the hosts",
            )
        image = f"{settings.image or 'the image that pdinfra builds'}"
        image += f"@{settings.image_digest}" if settings.image_digest else ""
        images.setdefault(image, host.name)
        for name in OF_NATIVE:
            if name in settings.model_fields_set:
                yield _useless(host, name, "is of stack native, this is ray")
        if _given(host, "master_port"):
            yield _useless(host, "master_port", "is of stack native: Ray finds an engine's workers")
    if len(images) > 1:
        cause = "Ray, vLLM and Python must be the same on all hosts, but images differ: "
        cause += "; ".join(f"{image} on {name}" for image, name in images.items())
        yield Problem.of("inventory", "pd_image", f"{cause}. Fix: give all hosts one pd_image")
    yield from _dashboard_problems(inventory.router)


def _dashboard_problems(head: Host) -> Iterator[Problem]:
    """Yield a dashboard that the world can reach: whoever does runs what he likes on all hosts."""
    address = head.settings.ray_dashboard_address
    if is_ip(address) and ip_address(address).is_private and not ip_address(address).is_unspecified:
        return
    yield Problem(
        host=head.name,
        thing=f"pd_ray_dashboard_address {address}",
        cause="is no private address, and whoever reaches Ray's dashboard can run code everywhere",
        fix="leave it at 127.0.0.1 and look by `ssh -L 8265:127.0.0.1:8265`, or set a private one",
    )


def _serve_problems(inventory: Inventory) -> Iterator[Problem]:
    """Yield what Ray Serve LLM does not do."""
    service = inventory.service
    paired = any(role != "mixed" for host in inventory.hosts for role in host.roles)
    if paired and service.connector not in (CONNECTOR, "nixl"):
        cause = "prefill and decode on Ray Serve hand KV over by NixlConnector here"
        fix = "set pd_connector to nixl, or pd_stack to native"
        yield Problem(
            host=inventory.hosts[0].name,
            thing=f"pd_connector {service.connector}",
            cause=cause,
            fix=fix,
        )
    if service.accelerator == "ascend":
        cause = "Ray Serve LLM knows GPUs and CPUs, no NPUs"
        fix = "set pd_ray_mode to executor, or pd_stack to native"
        yield Problem(host=inventory.hosts[0].name, thing="pd_ray_mode serve", cause=cause, fix=fix)
    for host in inventory.hosts:
        for name in OF_ROUTER:
            if name in host.settings.model_fields_set:
                yield _useless(
                    host, name, "Ray Serve's own proxy is the entry, and has no such thing"
                )
        for name in OF_PORTS:
            if _given(host, name):
                yield _useless(
                    host, name, "Ray Serve gives its replicas their ports (pd_ray_ports)"
                )


def _role_problems(engines: Sequence[Engine]) -> Iterator[Problem]:
    """Yield instances of one role that differ: Ray Serve has one configuration for all replicas."""
    first: dict[str, Engine] = {}
    for engine in engines:
        instance = engine.instance
        model = first.setdefault(instance.role, engine)
        if model is engine:
            yield from _word_problems(engine)
            continue
        differs = _differences(model, engine)
        if differs:
            yield Problem(
                host=instance.host,
                thing=instance.id,
                cause=(
                    f"has another {', '.join(differs)} than {model.instance.id}, and Ray Serve has "
                    f"one configuration for all replicas of {instance.role}"
                ),
                fix=f"give both the same, in group_vars or in pd_{instance.role}",
            )


def _word_problems(engine: Engine) -> Iterator[Problem]:
    """Yield words for `vllm serve` that have no meaning without a command line."""
    for words in unreadable(engine.settings.engine_args):
        yield Problem(
            host=engine.instance.host,
            thing=f"pd_engine_args {words}",
            cause="Ray Serve gives its engines arguments by name, and this names none",
            fix="write it as --name or --name value, lists and objects as JSON",
        )


def _node_problems(engines: Sequence[Engine]) -> Iterator[Problem]:
    """Yield CPU engines on one host with other threads or KV: one node's environment has these."""
    first: dict[str, Engine] = {}
    for engine in engines:
        instance = engine.instance
        other = first.setdefault(instance.host, engine)
        # Of one role they differ as replicas do, and are told so.
        if engine.accelerator != "cpu" or other.instance.role == instance.role:
            continue
        if cpu_env(other) != cpu_env(engine):
            yield Problem(
                host=instance.host,
                thing=instance.id,
                cause=(
                    f"has other threads or kv_cache_gib than {other.instance.id}, and engines of "
                    "one Ray node have them in common"
                ),
                fix="give both the same, or put them on hosts of their own",
            )


def _differences(one: Engine, other: Engine) -> list[str]:
    """Return by which settings two engines would be started differently."""
    first, second = vars(one.settings), vars(other.settings)
    names = [name for name in first if first[name] != second[name]]
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        if getattr(one.instance, name) != getattr(other.instance, name):
            names.append(name)
    if len(one.instance.parts) != len(other.instance.parts):
        names.append("number of hosts")
    if one.model_path != other.model_path:
        names.append("model_path")
    return names


def _executor_problems(inventory: Inventory, engines: Sequence[Engine]) -> Iterator[Problem]:
    """Yield what vLLM's Ray executor does not do, or not so that the plan decides where."""
    service, name = inventory.service, inventory.hosts[0].name
    if service.ray_min_replicas is not None:
        yield Problem(
            host=name,
            thing="pd_ray_min_replicas",
            cause="is of pd_ray_mode serve, this is executor",
            fix="remove it",
        )
    if service.accelerator == "cpu":
        yield Problem(
            host=name,
            thing="pd_ray_mode executor",
            cause="vLLM's Ray executor refuses CPUs (current platform cpu does not support ray)",
            fix=(
                "set pd_stack to native, whose engines go over hosts without Ray, "
                "or pd_ray_mode to serve"
            ),
        )
    paired = [e.instance for e in engines if e.instance.role != "mixed"]
    if paired:
        yield Problem(
            host=paired[0].host,
            thing=paired[0].id,
            cause=f"has the role {paired[0].role}, which the Ray executor is not for here",
            fix="set pd_ray_mode to serve, or pd_stack to native",
        )
    spanning = [e.instance for e in engines if e.instance.parts]
    if not spanning:
        yield Problem(
            host=name,
            thing="pd_ray_mode executor",
            cause="no instance goes over several hosts, so Ray would have nothing to do",
            fix="name further hosts in an entry of pd_instances, or set pd_stack to native",
        )
    for instance in spanning[1:]:
        cause = (
            f"goes over several hosts as {spanning[0].id} does, and Ray would decide which of the "
            "two comes where"
        )
        fix = "give it a service and an inventory of its own, or set pd_stack to native"
        yield Problem(host=instance.host, thing=instance.id, cause=cause, fix=fix)


def _given(host: Host, name: str) -> bool:
    """Tell whether a setting of instances is given, for all on the host or for some."""
    settings = host.settings
    layers: list[BaseModel] = [settings, *(getattr(settings, role) for role in host.roles)]
    layers += settings.instances or []
    return any(name in layer.model_fields_set for layer in layers)


def _useless(host: Host, name: str, cause: str) -> Problem:
    """Return that a setting would change nothing."""
    return Problem(host=host.name, thing=f"pd_{name}", cause=cause, fix="remove it")
