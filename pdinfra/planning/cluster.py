"""openYuanrong's full mode: a node on each host with engines, and the deployment on the nodes.

The engines are openYuanrong's own actors. pdinfra plans where their NPUs are and how many there are
of each kind; which node each comes to is openYuanrong's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pdinfra.model.inventory import Host, HostSettings, Inventory
from pdinfra.model.paths import HOME
from pdinfra.model.plan import (
    Cluster,
    Container,
    ContainerKind,
    ContainerSpec,
    EtcdMember,
    Healthcheck,
    ListenPort,
    Mount,
    Store,
    Worker,
)
from pdinfra.model.plan import Node as PlannedNode
from pdinfra.planning.containers import GIB, MIB, container
from pdinfra.planning.operator_image import release_of
from pdinfra.planning.place import SHM_GIB, host_part, socket, url
from pdinfra.planning.ports import YUANRONG_PURPOSES
from pdinfra.stacks.base import ASCEND_CONTROL, VLLM_ASCEND_MOUNTS, Engine
from pdinfra.yuanrong.commands import Node, Ports
from pdinfra.yuanrong.environment import Deployment
from pdinfra.yuanrong.runner import AGENTS, DEPLOYED

PROGRAM = "pd-yuanrong"
"""In the image: pdinfra.yuanrong with CANN's environment."""
SCRIPTS = "/opt/pdinfra/deploy"
LOOK_SECONDS = 30.0
"""How long one call waits for a deployment, of which the caller asks again, or for all agents."""
HEARTBEATS = 10
STOP_SECONDS = 90
"""`yr stop` gives its processes 40 s (its own default); the rest is for those that it leaves."""
OF_MASTER = ("etcd", "etcd_peer", "ds_master", "function_master")


def cluster(
    inventory: Inventory, engines: Mapping[str, Sequence[Engine]], image: str, model: str
) -> Cluster:
    """Return the nodes, and what is deployed on them. image: of the nodes; model: its path."""
    service = inventory.service
    nodes = tuple(_node(host, inventory) for host in inventory.hosts if host.roles)
    settings = master_settings(inventory, engines, model, len(nodes))
    # Another image restarts the nodes, and what ran on them is gone with them.
    made_from = json.dumps([settings["deployment"], settings.get("max_model_len"), image])
    digest = hashlib.sha256(made_from.encode()).hexdigest()
    words = ("--settings", _text(settings | {"digest": digest}))
    state = state_dir(service)
    return Cluster(
        nodes=nodes,
        count=(PROGRAM, "agents", *words),
        deploy=(PROGRAM, "deploy", *words),
        clean=(PROGRAM, "clean", *words),
        digest=digest,
        deployed=f"{state}/{DEPLOYED}",
        agents=f"{state}/{AGENTS}",
        summary=_summary(settings["deployment"]),
    )


def store(inventory: Inventory, nodes: Sequence[PlannedNode]) -> Store:
    """Return the data system inside the nodes: etcd on the master, a worker on each."""
    ports = ports_of(inventory.service)
    master = inventory.router
    hosts = {host.name: host for host in inventory.hosts}
    etcd = tuple(
        EtcdMember(
            id=node.id,
            host=node.host,
            url=url(node.address, ports.etcd),
            peer_url=url(node.address, ports.etcd_peer),
            container=node.container,
        )
        for node in nodes
        if node.master
    )
    workers = tuple(
        Worker(
            id=node.id,
            host=node.host,
            address=node.address,
            port=ports.ds_worker,
            container=node.container,
            data_bytes=_shared_mb(hosts[node.host]) * MIB,
        )
        for node in nodes
    )
    return Store(
        etcd=etcd,
        workers=workers,
        lister=(PROGRAM, "members", socket(master.address, ports.etcd)),
        client=(PROGRAM, "key"),
        master=socket(master.address, ports.ds_master),
    )


def node_container(
    host: Host, inventory: Inventory, engines: Sequence[Engine], image: str
) -> Container:
    """Return a host's node."""
    node = _node(host, inventory)
    model = engines[0].model_path
    spec = _spec(host, inventory, engines, image, _node_settings(host, inventory, model))
    kind: ContainerKind = "master" if node.master else "agent"
    return container(host.settings.service, node.id, f"yr-{kind}", host.name, kind, spec)


def node_ports(host: Host, inventory: Inventory) -> list[ListenPort]:
    """Return the ports that a host's node opens, and on the master's the entry's."""
    node = _node(host, inventory)
    ports = [
        ListenPort(port=port, address=host.address, owner=node.id, purpose=YUANRONG_PURPOSES[name])
        for name, port in vars(ports_of(host.settings)).items()
        if node.master or name not in OF_MASTER
    ]
    if node.master:
        entry = host.settings.router_port
        ports.append(ListenPort(port=entry, address=host.address, owner="router", purpose="API"))
    return ports


def node_memory(host: Host) -> int:
    """Return the bytes of host memory that the node's data system may fill."""
    return _shared_mb(host) * MIB


def ports_of(service: HostSettings) -> Ports:
    """Return all ports, pinned."""
    return Ports(**{str(name): port for name, port in service.yuanrong_ports.items()})


def state_dir(service: HostSettings) -> str:
    """Return the folder on a host that its node writes to."""
    return f"{HOME}/{service.service}/yr"


def master_settings(
    inventory: Inventory, engines: Mapping[str, Sequence[Engine]], model: str, count: int
) -> dict[str, Any]:
    """Return the settings of the verbs that work on the deployment, as JSON data."""
    master = inventory.router
    deployment = asdict(deployment_of(inventory, engines, model))
    data = _node_settings(master, inventory, model) | {
        "agents": count,
        "deployment": deployment,
        "limits": {"deployment": LOOK_SECONDS, "agents": LOOK_SECONDS},
    }
    if master.settings.max_model_len is not None:
        data["max_model_len"] = master.settings.max_model_len
    return data


def deployment_of(
    inventory: Inventory, engines: Mapping[str, Sequence[Engine]], model: str
) -> Deployment:
    """Return what the guides' script deploys: how many instances of which sizes."""
    everything = [engine.instance for mine in engines.values() for engine in mine]
    sizes = {
        role: [i.tensor_parallel_size for i in everything if i.role == role]
        for role in ("prefill", "decode", "mixed")
    }
    first, second = sizes["prefill"] or sizes["mixed"], sizes["decode"]
    base = _environment(inventory.router, inventory, model)
    return Deployment(
        **{
            **base,
            "prefill": len(first),
            "decode": len(second),
            "ptp": max(first, default=0),
            "dtp": max(second, default=0),
            "pdp": int(bool(first)),
            "ddp": int(bool(second)),
        }
    )


def node_of(host: Host, inventory: Inventory) -> Node:
    """Return how `yr` is started on a host."""
    settings, silent = host.settings, host.settings.datasystem_timeout_seconds
    return Node(
        host_ip=host.address,
        master_ip=inventory.router.address,
        deploy_path=f"{state_dir(settings)}/node",
        shared_memory_mb=_shared_mb(host),
        ports=ports_of(settings),
        node_timeout_s=silent,
        node_dead_timeout_s=3 * silent,
        heartbeat_interval_ms=1000 * silent // HEARTBEATS,
    )


def _node(host: Host, inventory: Inventory) -> PlannedNode:
    """Return a host's node as the plan has it. The master is where the entry is."""
    name = f"yr-{host_part(host)}"
    return PlannedNode(
        id=name,
        host=host.name,
        address=host.address,
        container=f"pd-{host.settings.service}-{name}",
        master=host is inventory.router,
    )


def _node_settings(host: Host, inventory: Inventory, model: str) -> dict[str, Any]:
    """Return the settings of a node alone: without numbers, as hosts and instances come and go."""
    return {
        "node": asdict(node_of(host, inventory)),
        "agents": 0,
        "deployment": _environment(host, inventory, model),
        "state": state_dir(host.settings),
    }


def _environment(host: Host, inventory: Inventory, model: str) -> dict[str, Any]:
    """Return what the guides' environment is made of on a host. Everywhere the entry's address."""
    entry, release = inventory.router, release_of(inventory.service)
    return {
        "server_ip": entry.settings.router_bind or entry.address,
        "server_port": entry.settings.router_port,
        "model_path": model,
        "tools_dir": SCRIPTS,
        "install_path": release.install_dir,
        "library_dir": release.library_dir,
        "worker_address": socket(host.address, ports_of(host.settings).ds_worker),
        "extra": dict(host.settings.env or {}),
    }


def _spec(
    host: Host,
    inventory: Inventory,
    engines: Sequence[Engine],
    image: str,
    settings: Mapping[str, Any],
) -> ContainerSpec:
    """Return a node's container: all NPUs of the host's planned instances, and no others."""
    own, state = host.settings, state_dir(host.settings)
    devices = sorted({device for engine in engines for device in engine.instance.devices})
    model = engines[0].model_path
    mounts = [Mount(source=model, target=model)]
    mounts += VLLM_ASCEND_MOUNTS
    mounts.append(Mount(source=state, target=state, read_only=False))
    shared = SHM_GIB["ascend"] if own.shm_gib is None else own.shm_gib
    return ContainerSpec(
        image=image,
        command=(PROGRAM, "run", "--settings", _text(settings)),
        env={},
        devices=(*(f"/dev/davinci{n}" for n in devices), *ASCEND_CONTROL),
        mounts=tuple(mounts),
        shm_size=int(shared * GIB),
        memory=int((own.memory_gib or 0) * GIB),
        # The vendor's image runs as root and counts on Docker's default capabilities.
        cap_drop=(),
        security_opts=() if own.privileged else ("no-new-privileges",),
        privileged=bool(own.privileged),
        stop_timeout=STOP_SECONDS,
        healthcheck=_healthcheck(host, inventory),
    )


def _healthcheck(host: Host, inventory: Inventory) -> Healthcheck:
    """Return a probe of what the supervisor watches, too: no program's word, ports."""
    listed = " ".join(str(port) for port in node_of(host, inventory).watched.values())
    probe = f"for p in {listed}; do exec 3<>/dev/tcp/{host.address}/$p || exit 1; done"
    return Healthcheck(
        test=("CMD", "bash", "-c", probe), interval=3, timeout=5, retries=5, start_period=300
    )


def _shared_mb(host: Host) -> int:
    """Return the memory of the host's data system, MB as `yr` counts them."""
    return int(host.settings.datasystem_gib * GIB) // MIB


def _summary(deployment: Mapping[str, Any]) -> str:
    """Return a deployment in words: ``1 prefill of 4 NPUs, 1 decode of 4 NPUs``."""
    kinds = (("prefill", "ptp"), ("decode", "dtp"))
    if not deployment["decode"]:
        return f"{deployment['prefill']} mixed of {deployment['ptp']} NPUs"
    return ", ".join(f"{deployment[kind]} {kind} of {deployment[tp]} NPUs" for kind, tp in kinds)


def _text(settings: Mapping[str, Any]) -> str:
    """Return settings as one line, the same for the same settings."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=False)
