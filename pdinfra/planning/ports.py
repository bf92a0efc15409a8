"""Every port of a plan, and clashes between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from pdinfra.model.ascend import HCCL_PORTS, LAST_NPU_PORT, NPU_PORT
from pdinfra.model.inventory import Accelerator, RayPort
from pdinfra.model.plan import Instance, ListenPort, Router
from pdinfra.model.problems import Problem
from pdinfra.planning.place import INTERNAL_PORTS

ROUTER_INTERNAL_PORTS = 4
"""API and metrics of two vllm-router processes."""
DIRECT_PORTS = range(20000, 36000)
ASCEND_RESERVED: tuple[tuple[range, str], ...] = (
    (range(NPU_PORT, LAST_NPU_PORT + 1), "HCCL on the NPU"),
    (DIRECT_PORTS, "AscendDirect's random ports"),
    (HCCL_PORTS, "HCCL on the host"),
)
"""vllm-ascend v0.23 docs and hccl docs; a planned port inside clashes at run time, now and then."""


YUANRONG_PURPOSES = {
    "etcd": "etcd",
    "etcd_peer": "etcd peers",
    "ds_master": "data system's master",
    "ds_worker": "data",
    "function_master": "function master",
    "function_proxy": "function proxy",
    "function_proxy_grpc": "function proxy gRPC",
    "function_proxy_exec": "function proxy exec",
    "function_agent": "function agent",
    "runtime_init": "first runtime",
}
"""What each port of a node is for, by its name in pd_yuanrong_ports."""


RAY_PURPOSES: dict[str, str] = {
    name: f"Ray's {name.replace('_', ' ')}" for name in get_args(RayPort)
}
"""What each port of a Ray node is for, by its name in pd_ray_ports."""


MASTER = "parts of the instance"
"""Purpose of the port by which an instance over several hosts finds its parts."""
SIDE_CHANNEL = "KV side channel"
MODEL_COPIES = "model copies"
"""Purpose of a port that is open only while other hosts copy the model."""
STORE_VARIABLES = {
    "clients": "pd_etcd_port",
    "members": "pd_etcd_peer_port",
    "data": "pd_datasystem_port",
}
"""Of ports that etcd and the data system open, by purpose."""


def instance_ports(instance: Instance, address: str) -> list[ListenPort]:
    """Return the ports that one instance opens."""

    def port(number: int, purpose: str) -> ListenPort:
        return ListenPort(port=number, address=address, owner=instance.id, purpose=purpose)

    ports = [port(instance.port, "API")]
    ports += [port(instance.kv_port + n, SIDE_CHANNEL) for n in range(instance.kv_ports)]
    if instance.master_port:
        # torch's store listens on all addresses (measured).
        everywhere = port(instance.master_port, MASTER).model_copy(update={"address": "0.0.0.0"})
        ports.append(everywhere)
    if instance.internal_port:
        ports += [port(instance.internal_port + n, "internal") for n in range(INTERNAL_PORTS)]
    return ports


def router_ports(router: Router, address: str) -> list[ListenPort]:
    """Return the ports that the router opens."""
    api = ListenPort(port=router.port, address=address, owner=router.id, purpose="API")
    if router.static:
        return [api]
    return [
        api,
        ListenPort(port=router.metrics_port, address=address, owner=router.id, purpose="metrics"),
        *(
            ListenPort(
                port=router.internal_port + n,
                address=address,
                owner=router.id,
                purpose="internal",
            )
            for n in range(ROUTER_INTERNAL_PORTS if router.internal_port else 0)
        ),
    ]


def port_problems(
    by_host: Mapping[str, Sequence[ListenPort]],
    addresses: Mapping[str, str],
    accelerator: Accelerator,
    *,
    direct: bool = True,
) -> list[Problem]:
    """Return clashes on one machine (hosts with one address are one) and reserved ports.

    direct: whether engines hand KV over by AscendDirect, which takes ports of its own.
    """
    problems = []
    seen: dict[tuple[str, int], ListenPort] = {}
    for host, ports in by_host.items():
        for port in _clashes(addresses[host], ports, seen):
            first = seen[(addresses[host], port.port)]
            # Ray's replicas have theirs from where the stack says: what else is there can move.
            other = (
                first if port.owner.startswith("ray-") and port.purpose == SIDE_CHANNEL else port
            )
            problems.append(
                Problem(
                    host=host,
                    thing=f"port {port.port}",
                    cause=(
                        f"wanted by {first.owner} ({first.purpose}) "
                        f"and {port.owner} ({port.purpose})"
                    ),
                    fix=f"give {other.owner} another {_variable(other)}",
                )
            )
        reserved = [
            (ports_, owner) for ports_, owner in ASCEND_RESERVED if direct or ports_ != DIRECT_PORTS
        ]
        problems += _reserved(host, ports, reserved) if accelerator == "ascend" else []
        problems += [
            Problem(
                host=host,
                thing=f"port {port.port}",
                cause=f"{port.owner} ({port.purpose}) is beyond 65535",
                fix=f"give {port.owner} a lower {_variable(port)}",
            )
            for port in ports
            if port.port > 65535
        ]
    return problems


def _clashes(
    address: str, ports: Iterable[ListenPort], seen: dict[tuple[str, int], ListenPort]
) -> list[ListenPort]:
    """Return the first port of each pair of owners that clash, and note all ports as seen."""
    pairs: dict[tuple[str, str, str], ListenPort] = {}
    for port in ports:
        first = seen.setdefault((address, port.port), port)
        # Two nodes of Ray on one machine clash in everything: that is told once, as such.
        nodes = first.purpose == port.purpose and port.purpose in RAY_PURPOSES.values()
        if first is not port and not nodes:
            pairs.setdefault((first.owner, port.owner, port.purpose), port)
    return list(pairs.values())


def _reserved(
    host: str, ports: Iterable[ListenPort], reserved: Iterable[tuple[range, str]]
) -> list[Problem]:
    """Return ports inside the ranges that Ascend's own libraries use."""
    return [
        Problem(
            host=host,
            thing=f"port {port.port}",
            cause=f"{port.owner} ({port.purpose}) is in {taken.start}-{taken.stop - 1}, {owner}",
            fix=f"give {port.owner} a {_variable(port)} outside of it",
        )
        for port in ports
        for taken, owner in reserved
        if port.port in taken
    ]


def _variable(port: ListenPort) -> str:
    """Return the variable that sets a port."""
    if port.purpose == MODEL_COPIES:
        return "pd_model_port"
    if port.owner == "router":
        names = {"metrics": "metrics_port", "internal": "internal_port"}
        return f"pd_router_{names.get(port.purpose, 'port')}"
    named = {purpose: name for name, purpose in YUANRONG_PURPOSES.items()}
    if port.owner.startswith("yr-") and port.purpose in named:
        return f"pd_yuanrong_ports.{named[port.purpose]}"
    ray = {purpose: name for name, purpose in RAY_PURPOSES.items()}
    if port.purpose in ray:
        return f"pd_ray_ports.{ray[port.purpose]}"
    if port.purpose in STORE_VARIABLES:
        return STORE_VARIABLES[port.purpose]
    of_instances = {"API": "port", SIDE_CHANNEL: "kv_port", MASTER: "master_port"}
    return of_instances.get(port.purpose, "internal_port")
