"""A Ray cluster: one head, the nodes that join it, what each says it has, and every port.

Sources: Ray 2.60, `ray start --help`; guide vllm-ray-tensor-parallel, which starts a head on every
host and so has as many clusters as hosts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pdinfra.model.inventory import Accelerator, Host, HostSettings, Inventory, Role
from pdinfra.model.paths import HOME
from pdinfra.model.plan import (
    Container,
    ContainerKind,
    ContainerSpec,
    Healthcheck,
    ListenPort,
    Mount,
    RayCluster,
    RayNode,
    Replica,
    Router,
)
from pdinfra.planning.containers import (
    GIB,
    MIB,
    NVIDIA_ULIMITS,
    connected,
    container,
    instance_spec,
)
from pdinfra.planning.place import SHM_GIB, ray_node, socket, url
from pdinfra.planning.ports import RAY_PURPOSES, SIDE_CHANNEL
from pdinfra.stacks import ray as stack
from pdinfra.stacks.base import ASCEND_CONTROL, VLLM_ASCEND_MOUNTS, Engine, Launch, finish, serve
from pdinfra.stacks.ray_versions import ray_version
from pdinfra.versions.order import order
from pdinfra.versions.table import VersionError

PORTS = {
    "gcs": 6379,
    "client": 10001,
    "dashboard": 8265,
    "node_manager": 6380,
    "object_manager": 6381,
    "runtime_env": 6382,
    "agent_grpc": 6383,
    "agent": 6384,
    "metrics": 6385,
    "workers": 10100,
}
"""Ray's own first three; the others it takes at random."""
WORKER_PORTS = 64
"""One for each process that Ray starts on a host, and for each driver there (8 cards: 25)."""
OF_HEAD = ("gcs", "client", "dashboard")
EVERYWHERE = ("gcs", "node_manager", "object_manager", "agent_grpc", "metrics", "workers")
"""Parts that listen on all addresses, whatever the node's is (measured, Ray 2.60)."""
DEVICE_WORDS: dict[Accelerator, str] = {"cpu": "", "nvidia": "GPU", "ascend": "NPU"}
"""What vLLM asks Ray for (0.32, platforms: ray_device_key)."""
NODE_BYTES = GIB // 2
"""A node besides its engines: raylet and agents (measured, Ray 2.60: 0.45)."""
HEAD_BYTES = int(1.3 * GIB)
"""The head besides: GCS, dashboard, Serve's controller, proxy and ingress (measured)."""
REPLICA_BYTES = int(0.7 * GIB)
"""What Ray Serve has around one engine (measured)."""
STATE = "/tmp/ray"
KEEPS_SINCE = "2.60.0"
"""RocksDB for GCS (measured on 2.60; not looked for in older ones)."""
KEPT = "/tmp/pdinfra-gcs"
"""In the head's container: it outlives the container's restarts, not the container."""


@dataclass(frozen=True)
class Census:
    """The engines that Ray places, as the plan has them.

    ``on``: by host, those that are there wholly or in part; ``ranks``: of each role, altogether.
    """

    engines: Sequence[Engine]
    on: Mapping[str, Sequence[Engine]]
    ranks: Mapping[Role, int]


def census(inventory: Inventory, engines: Sequence[Engine]) -> Census:
    """Count them once, for all hosts; engines: all of the service.

    With an executor, engines on one host alone need no Ray.
    """
    serves = inventory.service.ray_mode == "serve"
    mine = [e for e in engines if serves or e.instance.parts]
    on: dict[str, list[Engine]] = {}
    ranks: Counter[Role] = Counter()
    for engine in mine:
        ranks[engine.instance.role] += engine.instance.ranks
        for host, _ in engine.instance.containers:
            on.setdefault(host, []).append(engine)
    return Census(mine, on, ranks)


def ray_cluster(inventory: Inventory, counted: Census) -> RayCluster:
    """Return the cluster: the head is where the entry is."""
    service = inventory.service
    ports, head = ports_of(service), inventory.router
    return RayCluster(
        mode=service.ray_mode,
        address=socket(head.address, ports["gcs"]),
        dashboard=url(head.settings.ray_dashboard_address, ports["dashboard"]),
        metrics_port=ports["metrics"],
        status=("ray", "status", "--address", socket(head.address, ports["gcs"])),
        nodes=tuple(_node(host, inventory, counted) for host in hosts_of(inventory)),
        replicas=_replicas(inventory, counted.engines) if service.ray_mode == "serve" else (),
        least=service.ray_min_replicas,
    )


def hosts_of(inventory: Inventory) -> list[Host]:
    """Return the hosts with a node: the head's, and all with engines."""
    computing = set(map(id, inventory.computing))
    return [h for h in inventory.hosts if h is inventory.router or id(h) in computing]


def ports_of(service: HostSettings) -> dict[str, int]:
    """Return all ports, pinned."""
    given: Mapping[str, int] = {str(name): port for name, port in service.ray_ports.items()}
    return {**PORTS, **given}


def ray_container(host: Host, inventory: Inventory, counted: Census, image: str) -> Container:
    """Return a host's node. image: the engines', the same everywhere."""
    node = _node(host, inventory, counted)
    kind: ContainerKind = "head" if node.head else "node"
    spec = _spec(host, inventory, node, counted.on.get(host.name, ()), image)
    return container(host.settings.service, node.id, f"ray-{kind}", host.name, kind, spec)


def ray_ports(host: Host, inventory: Inventory, counted: Census) -> list[ListenPort]:
    """Return the ports that a host's node opens, its processes' and its replicas' too."""
    name = ray_node(host)
    head = host is inventory.router
    ports = ports_of(host.settings)
    where = dict.fromkeys(EVERYWHERE, "0.0.0.0") | {
        "dashboard": host.settings.ray_dashboard_address
    }

    def port(number: int, purpose: str, address: str = host.address) -> ListenPort:
        return ListenPort(port=number, address=address, owner=name, purpose=purpose)

    found = [
        port(number, RAY_PURPOSES[part], where.get(part, host.address))
        for part, number in ports.items()
        if part != "workers" and (head or part not in OF_HEAD)
    ]
    found += [
        port(ports["workers"] + n, RAY_PURPOSES["workers"], "0.0.0.0") for n in range(WORKER_PORTS)
    ]
    if host.settings.ray_mode != "serve":
        return found
    roles = {engine.instance.role for engine in counted.on.get(host.name, ())}
    return found + [
        port(number, SIDE_CHANNEL)
        for role, base in stack.KV_BASES.items()
        if role in roles
        for number in range(base, base + counted.ranks[role])
    ]


def ray_memory(host: Host, inventory: Inventory, everything: Sequence[Engine]) -> int:
    """Return the bytes of host memory that Ray itself takes, besides the engines."""
    replicas = [e for e in everything if e.instance.host == host.name]
    served = len(replicas) * REPLICA_BYTES if host.settings.ray_mode == "serve" else 0
    return NODE_BYTES + (HEAD_BYTES if host is inventory.router else 0) + served


def _node(host: Host, inventory: Inventory, counted: Census) -> RayNode:
    """Return a host's node as the plan has it. The head is where the entry is."""
    name = ray_node(host)
    return RayNode(
        id=name,
        host=host.name,
        address=host.address,
        container=f"pd-{host.settings.service}-{name}",
        head=host is inventory.router,
        resources=_resources(host, inventory, counted.on.get(host.name, ())),
    )


def _resources(host: Host, inventory: Inventory, engines: Sequence[Engine]) -> dict[str, float]:
    """Return what a node has to give: by role exactly what the plan puts there.

    So nothing comes to another host than planned, whatever else is free. One word is the host's
    own: `ray status` sums up, and shows by it who is missing. engines: those on the host.
    """
    ranks: Counter[str] = Counter()
    for engine in engines:
        instance = engine.instance
        ranks[instance.role] += instance.ranks // len(instance.containers)
    word = DEVICE_WORDS[inventory.service.accelerator]
    found: dict[str, float] = {stack.host_word(host.name): 1, "CPU": ranks.total()}
    found |= {stack.ENTRY_WORD: 1} if host is inventory.router else {}
    if inventory.service.ray_mode == "serve":
        found |= {stack.role_word(role): count for role, count in ranks.items()}
    return found | ({word: ranks.total()} if word else {})


def _replicas(inventory: Inventory, everything: Sequence[Engine]) -> tuple[Replica, ...]:
    """Return the planned replicas, in the plan's order."""
    addresses = {host.name: host.address for host in inventory.hosts}
    return tuple(
        Replica(
            id=engine.instance.id,
            role=engine.instance.role,
            host=engine.instance.host,
            address=addresses[engine.instance.host],
            deployment=stack.deployment_name(engine.instance.role),
            instance=engine.instance,
            told=finish(serve(engine), engine).command,
        )
        for engine in everything
    )


def _spec(
    host: Host,
    inventory: Inventory,
    node: RayNode,
    mine: Sequence[Engine],
    image: str,
) -> ContainerSpec:
    """Return a node's container: all cards of what Ray places there, and no others.

    mine: the engines that are there, wholly or in part.
    """
    own, accelerator = host.settings, inventory.service.accelerator
    executes = own.ray_mode == "executor"
    devices = sorted(
        {
            d
            for e in mine
            for name, _, cards in e.instance.places
            if name == host.name
            for d in cards
        }
    )
    ascend = accelerator == "ascend"
    kept = KEPT if node.head and keeps(own) else ""
    models = sorted({engine.model_path for engine in mine})
    mounts = [Mount(source=path, target=path) for path in models]
    mounts += VLLM_ASCEND_MOUNTS if ascend else ()
    if executes:
        state = state_dir(own)
        mounts.append(Mount(source=state, target=STATE, read_only=False))
    each = SHM_GIB[accelerator] if own.shm_gib is None else own.shm_gib
    shared = own.ray_object_store_gib + each * max(1, len(mine))
    return ContainerSpec(
        image=image,
        command=_command(host, inventory, node),
        env=stack.node_environment(host.address, mine, kept),
        devices=(*(f"/dev/davinci{n}" for n in devices), *ASCEND_CONTROL) if ascend else (),
        gpus=tuple(str(n) for n in devices if accelerator == "nvidia"),
        mounts=tuple(mounts),
        ipc_mode="host" if executes or (accelerator == "nvidia" and devices) else "private",
        pid_mode="host" if executes else None,
        shm_size=int(shared * GIB),
        memory=int((own.memory_gib or 0) * GIB),
        ulimits=NVIDIA_ULIMITS if accelerator == "nvidia" else (),
        cap_drop=("ALL",) if accelerator == "cpu" and not own.privileged else (),
        security_opts=() if own.privileged else ("no-new-privileges",),
        privileged=bool(own.privileged),
        healthcheck=_healthcheck(host, inventory, head=node.head),
    )


def _command(host: Host, inventory: Inventory, node: RayNode) -> tuple[str, ...]:
    """Return `ray start`, as the container's main process."""
    ports, own = ports_of(host.settings), host.settings
    resources = dict(node.resources)
    cpus, gpus = int(resources.pop("CPU")), int(resources.pop("GPU", 0))
    words = ["ray", "start", "--block"]
    if node.head:
        words += [
            "--head",
            "--port", str(ports["gcs"]),
            "--ray-client-server-port", str(ports["client"]),
            "--dashboard-host", own.ray_dashboard_address,
            "--dashboard-port", str(ports["dashboard"]),
        ]  # fmt: skip
    else:
        words += ["--address", socket(inventory.router.address, ports["gcs"])]
    words += [
        "--node-ip-address", host.address,
        "--node-manager-port", str(ports["node_manager"]),
        "--object-manager-port", str(ports["object_manager"]),
        "--runtime-env-agent-port", str(ports["runtime_env"]),
        "--dashboard-agent-grpc-port", str(ports["agent_grpc"]),
        "--dashboard-agent-listen-port", str(ports["agent"]),
        "--metrics-export-port", str(ports["metrics"]),
        "--min-worker-port", str(ports["workers"]),
        "--max-worker-port", str(ports["workers"] + WORKER_PORTS - 1),
        "--num-cpus", str(cpus),
        "--num-gpus", str(gpus),
        "--object-store-memory", str(int(own.ray_object_store_gib * GIB)),
        "--resources", json.dumps(resources, sort_keys=True),
        "--disable-usage-stats",
    ]  # fmt: skip
    return tuple(words)


def _healthcheck(host: Host, inventory: Inventory, *, head: bool) -> Healthcheck:
    """Return a probe that every image with Ray can run, and that costs next to nothing.

    Of the head: it listens. Of a node: its connection to the head is open.
    """
    gcs = ports_of(host.settings)["gcs"]
    if not head:
        return connected(inventory.router.address, gcs, start_period=300)
    probe = f"exec 3<>/dev/tcp/{host.address}/{gcs}"
    return Healthcheck(
        test=("CMD", "bash", "-c", probe), interval=5, timeout=5, retries=3, start_period=120
    )


def keeps(service: HostSettings) -> bool:
    """Tell whether the image's Ray can keep what the head knows over its restart."""
    try:
        return order(ray_version(service) or "") >= order(KEEPS_SINCE)
    except VersionError:
        return False


def state_dir(service: HostSettings) -> str:
    """Return the folder that Ray's node and the engine beside it share: sockets and logs."""
    return f"{HOME}/{service.service}/ray"


def serve_url(inventory: Inventory) -> str:
    """Return where Ray Serve says what is on it, on the head's host; empty where it has nothing."""
    settings = inventory.router.settings
    if settings.stack != "ray" or settings.ray_mode != "serve":
        return ""
    return url(settings.ray_dashboard_address, ports_of(settings)["dashboard"])


def beside(engine: Engine, image: str, launch: Launch, inventory: Inventory) -> ContainerSpec:
    """Return the container of an engine that finds the node on its host, and by it the cluster.

    Both see each other's processes and shared memory: Ray's driver hangs if it does not see the
    node's processes (measured, 2.60), and engine and workers talk by shared memory.
    """
    service = inventory.service
    state = state_dir(service)
    head = socket(inventory.router.address, ports_of(service)["gcs"])
    sockets = Mount(source=state, target=STATE, read_only=False)
    spec = instance_spec(engine, image, stack.beside_node(launch, head, sockets))
    return spec.model_copy(update={"pid_mode": "host", "ipc_mode": "host"})


def entry_spec(
    image: str, inventory: Inventory, bind: str, router: Router, everything: Sequence[Engine]
) -> ContainerSpec:
    """Return what keeps the application on Ray Serve; its health is that of the application."""
    settings = inventory.router.settings
    dashboard = url(settings.ray_dashboard_address, ports_of(settings)["dashboard"])
    launch = stack.keeper(dashboard, bind, router.port, everything, settings.ray_min_replicas)
    ready = ("python", "-m", "pdinfra_ray", "--dashboard", dashboard, "--ready")
    return ContainerSpec(
        image=image,
        command=launch.command,
        env=launch.env,
        shm_size=64 * MIB,
        # A model of many gigabytes loads for as long as the replicas need.
        healthcheck=Healthcheck(
            test=("CMD", *ready), interval=5, timeout=5, retries=3, start_period=1800
        ),
    )
