"""Inventory → plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from pdinfra.assets import Assets
from pdinfra.model.addresses import is_ip, is_loopback
from pdinfra.model.inventory import Host, HostSettings, Inventory
from pdinfra.model.paths import HOME
from pdinfra.model.plan import (
    COMPUTES,
    MEMBERS_FILE,
    Basics,
    Cluster,
    Container,
    HostPlan,
    Image,
    Instance,
    ListenPort,
    ManagedFile,
    Member,
    Model,
    Observe,
    Plan,
    RankTables,
    Router,
    Store,
)
from pdinfra.model.problems import InvalidInventoryError, Problem
from pdinfra.operator_files import UNSEEN, OperatorState
from pdinfra.planning.cluster import cluster, node_container, node_memory, node_ports
from pdinfra.planning.cluster import store as store_of_nodes
from pdinfra.planning.cluster_problems import cluster_problems
from pdinfra.planning.connectors import named
from pdinfra.planning.containers import GIB, container, instance_spec, router_spec
from pdinfra.planning.drivers import driver_plan
from pdinfra.planning.images import (
    engine_image,
    image_problems,
    published,
    router_image,
    yuanrong_image,
)
from pdinfra.planning.models import (
    TINY_NAME,
    host_models,
    is_tiny,
    model_name,
    model_path,
    model_problems,
    model_share,
    share_ports,
)
from pdinfra.planning.operator_image import operator_image
from pdinfra.planning.place import place, shared_device_problems, url
from pdinfra.planning.ports import instance_ports, port_problems, router_ports
from pdinfra.planning.rank_tables import rank_tables
from pdinfra.planning.ray import (
    beside,
    census,
    entry_spec,
    hosts_of,
    ray_cluster,
    ray_container,
    ray_memory,
    ray_ports,
    serve_url,
)
from pdinfra.planning.shared_path import shared_path, shared_path_problems
from pdinfra.planning.span import lent, parts_on, span_problems, with_parts
from pdinfra.planning.stack_only import stack_only_problems
from pdinfra.planning.store import (
    identity,
    store,
    store_containers,
    store_memory,
    store_ports,
    store_problems,
)
from pdinfra.stacks import STACKS
from pdinfra.stacks.base import Engine, Peers, StackModule, peers_of

ENGINE_BYTES = int(1.3 * GIB)
"""A CPU engine besides KV and weights: API server and core (measured, vLLM 0.32: 1.1 at most)."""
WORKER_BYTES = int(0.6 * GIB)
"""Each worker besides these, where it is a process of its own (measured)."""
ROUTER_BYTES = GIB // 4
"""The front and, while members change, two vllm-router (measured: 60 and 82 MB)."""


def build(
    inventory: Inventory, assets: Assets, authority: str = "", state: OperatorState = UNSEEN
) -> Plan:
    """Return every decision about the service.

    Deterministic: the same arguments give the same plan. authority: SHA-256 of the certificate of
    the service's own authority, empty while there is none. state: the operator's files as they are.
    Raises InvalidInventoryError with all problems found.
    """
    inventory = named(inventory)
    service = inventory.service
    stack = STACKS[service.stack]
    problems: list[Problem] = []
    kept = None
    clustered = stack.clustered(service)
    on_ray = service.stack == "ray"
    served = on_ray and service.ray_mode == "serve"
    if stack.stores and not clustered:
        problems += store_problems(inventory)
        kept = store(inventory, authority)
    engines: dict[str, list[Engine]] = {}
    cards: dict[str, Mapping[str, tuple[int, ...]]] = {}
    borrowed = lent(inventory)
    for host in inventory.hosts:
        path = model_path(host, assets)
        name = model_name(host.settings)
        placed, found = place(
            host,
            service.accelerator,
            service.service,
            path,
            name,
            stack,
            borrowed.get(host.name, ()),
        )
        engines[host.name], cards[host.name] = placed.engines, placed.lent
        problems += found
        problems += image_problems(host, service.accelerator)
        problems += model_problems(host, inventory)
        problems += driver_plan(host, service.accelerator)[1]
        problems += _tiny_problems(host, engines[host.name], assets)
        if not clustered:
            problems += _load_problems(engines[host.name], stores=kept is not None)
    engines = with_parts(inventory, engines, cards)
    instances = tuple(engine.instance for mine in engines.values() for engine in mine)
    everything = [engine for mine in engines.values() for engine in mine]
    problems += span_problems(inventory, assets)
    problems += stack.problems(inventory, everything)
    if clustered:
        problems += cluster_problems(inventory, engines, _one_path(engines), state)
    members = [
        Member(
            id=engine.instance.id,
            role=engine.instance.role,
            url=engine.instance.url,
            kv=stack.kv_address(engine, host.settings),
        )
        for host in inventory.hosts
        for engine in engines[host.name]
    ]
    router = _router(inventory.router, () if clustered or served else members)
    with_node = {host.name for host in hosts_of(inventory)} if on_ray else set()
    counted = census(inventory, everything)
    ports = {
        host.name: (
            _node_ports(host, inventory)
            if clustered
            else _ports(
                () if served else engines[host.name],
                host,
                router if host is inventory.router else None,
            )
        )
        + (ray_ports(host, inventory, counted) if host.name in with_node else [])
        + share_ports(host, inventory)
        + (store_ports(host, kept) if kept else [])
        for host in inventory.hosts
    }
    addresses = {host.name: host.address for host in inventory.hosts}
    problems += port_problems(ports, addresses, service.accelerator, direct=not clustered)
    problems += stack_only_problems(inventory)
    problems += shared_path_problems(inventory)
    problems += _id_problems(instances, parts=not on_ray)
    problems += _loopback_problems(inventory)
    problems += _model_name_problems(inventory)
    problems += shared_device_problems(inventory.hosts, everything)
    if problems:
        raise InvalidInventoryError(problems)
    names = _names(inventory)
    tables = rank_tables(inventory)
    peers = peers_of(everything)
    spanning = [engine for engine in everything if engine.instance.parts]
    image = operator_image(inventory.router, assets, state) if clustered else None
    made = cluster(inventory, engines, image.ref, _one_path(engines)) if image else None
    if made:
        router = router.model_copy(update={"container": made.master.container})
    ray = ray_cluster(inventory, counted) if on_ray else None
    return Plan(
        service=service.service,
        stack=service.stack,
        accelerator=service.accelerator,
        connector=service.connector,
        protocol=stack.protocol(service),
        model_name=_one_path(engines) if made else _served_name(inventory),
        together=stack.together(service),
        convergeable=stack.convergeable(service),
        instances=() if made or served else instances,
        router=router,
        store=store_of_nodes(inventory, made.nodes) if made else kept,
        cluster=made,
        ray=ray,
        rank_tables=tables,
        shared_path=shared_path(inventory),
        hosts=tuple(
            _host_plan(
                host,
                inventory,
                [*engines[host.name], *parts_on(host, spanning, model_path(host, assets))],
                peers,
                _router_container(stack, router, inventory, assets, everything)
                if host is inventory.router and not made
                else None,
                ports[host.name],
                assets,
                _neighbours(host, inventory, instances, router),
                names,
                router.url if host is inventory.router and not made else "",
                kept,
                made,
                image,
                tables,
                ray_container(host, inventory, counted, engine_image(host, assets).ref)
                if host.name in with_node
                else None,
            )
            for host in inventory.hosts
        )
        + tuple(_spare_plan(host, service) for host in inventory.spare),
    )


def _router(host: Host, members: Sequence[Member]) -> Router:
    """Return the router's place."""
    settings = host.settings
    stack = STACKS[settings.stack]
    # Those of vllm-router, where it answers.
    inside = stack.vllm_router(settings, {member.role for member in members})
    return Router(
        host=host.name,
        url=url(_reachable(host), settings.router_port),
        port=settings.router_port,
        metrics_port=settings.router_metrics_port,
        internal_port=settings.router_internal_port if inside else 0,
        container=f"pd-{settings.service}-router",
        members=tuple(members),
        members_dir=f"{HOME}/{settings.service}/router",
        drain_seconds=settings.drain_seconds,
        static=stack.static(settings),
    )


def _reachable(host: Host) -> str:
    """Return the address that clients use: what the router binds, unless that is a wildcard."""
    bind = host.settings.router_bind
    return host.address if bind in (None, "0.0.0.0", "::") else bind


def _router_container(
    stack: StackModule,
    router: Router,
    inventory: Inventory,
    assets: Assets,
    engines: Sequence[Engine],
) -> Container | None:
    """Return the router's container, if the stack's router is one."""
    host = inventory.router
    image = _router_image(host, assets).ref
    launch = stack.router(router, host, _router_bind(host), engines)
    if launch.command:
        spec = router_spec(image, launch, router)
    elif host.settings.stack == "ray":
        spec = entry_spec(image, inventory, _router_bind(host), router, engines)
    else:
        return None
    return container(host.settings.service, router.id, "router", host.name, "router", spec)


def _host_plan(
    host: Host,
    inventory: Inventory,
    engines: Sequence[Engine],
    peers: Peers,
    router: Container | None,
    ports: Sequence[ListenPort],
    assets: Assets,
    neighbours: tuple[str, ...],
    names: tuple[str, ...] | None,
    entry: str,
    kept: Store | None,
    made: Cluster | None,
    nodes_image: Image | None,
    tables: RankTables | None,
    node: Container | None,
) -> HostPlan:
    """Put together everything that one host must become."""
    service = host.settings
    stack = STACKS[service.stack]
    containers = []
    images: dict[str, Image] = {}
    certificate = identity(host, kept) if kept else None
    if kept and certificate:
        image = yuanrong_image(host, assets)
        images[image.ref] = image
        containers += store_containers(host, kept, image.ref)
    if made and nodes_image and engines:
        images[nodes_image.ref] = nodes_image
        containers.append(node_container(host, inventory, engines, nodes_image.ref))
    if node is not None:
        image = engine_image(host, assets)
        images[image.ref] = image
        containers.append(node)
    for engine in () if made else _own(engines, service):
        image = engine_image(host, assets)
        images[image.ref] = image
        launch = stack.engine(engine, service, peers)
        on_node = node is not None and engine.instance.parts
        spec = (
            beside(engine, image.ref, launch, inventory)
            if on_node
            else instance_spec(engine, image.ref, launch)
        )
        instance = engine.instance
        _, part = instance.containers[engine.node]
        containers.append(
            container(service.service, part, instance.role, host.name, "instance", spec)
        )
    if router is not None:
        image = _router_image(host, assets)
        images[image.ref] = image
        containers.append(router)
    sizes = [engine.instance.tensor_parallel_size for engine in engines]
    reads = router is not None and stack.bundled
    models = host_models(host, inventory, sizes, assets, router=reads)
    return HostPlan(
        name=host.name,
        address=host.address,
        accelerator=service.accelerator,
        images=tuple(images.values()),
        published=published(images.values(), service),
        models=models,
        share=model_share(host, inventory, assets),
        containers=tuple(containers),
        ports=tuple(ports),
        files=_files(models, None if stack.static(service) else router),
        neighbours=neighbours,
        memory=_memory(engines)
        + (ROUTER_BYTES if router else 0)
        + (store_memory(host, kept) if kept else 0)
        + (node_memory(host) if made and engines else 0)
        + (ray_memory(host, inventory, engines) if node is not None else 0),
        identity=certificate,
        runtimes=_runtimes(service, engines),
        driver=driver_plan(host, service.accelerator)[0],
        registry_mirrors=tuple(service.registry_mirrors),
        pip_args=tuple(service.pip_args),
        observe=Observe(
            service=service.service,
            models=tuple(model.path for model in models),
            ports=tuple(sorted({port.port for port in ports})),
            archives=tuple(image.archive for image in images.values() if image.archive),
            names=names or tuple(name for name in (host.address,) if not is_ip(name)),
            accelerator=service.accelerator,
            devices=tuple(sorted({d for engine in engines for d in engine.instance.devices})),
            mounts=_mount_sources(containers, models),
            router="" if stack.static(service) else entry,
            serve=serve_url(inventory) if entry else "",
            certificates=(f"{certificate.folder}/ca.crt", f"{certificate.folder}/node.crt")
            if certificate
            else (),
            notes=(made.deployed, made.agents) if made and host is inventory.router else (),
            rank_tables=tables.folder if tables else "",
        ),
        basics=_basics(service) if names is not None else None,
    )


def _router_image(host: Host, assets: Assets) -> Image:
    """Return the image of the router, which some stacks have in that of the engines."""
    bundled = STACKS[host.settings.stack].bundled
    return engine_image(host, assets) if bundled else router_image(host, assets)


def _own(engines: Sequence[Engine], service: HostSettings) -> Sequence[Engine]:
    """Return the engines that are containers of ours: Ray starts replicas and parts itself."""
    if service.stack != "ray":
        return engines
    return [e for e in engines if service.ray_mode == "executor" and not e.node]


def _names(inventory: Inventory) -> tuple[str, ...] | None:
    """Return the names by which the machines may look for each other; None if there is but one."""
    if len({host.address for host in inventory.hosts}) < 2:
        return None
    names = (name for host in inventory.hosts for name in (host.name, host.address))
    return tuple(dict.fromkeys(name for name in names if not is_ip(name)))


def _basics(settings: HostSettings) -> Basics:
    """Return what of the host's own system pdinfra may set."""
    return Basics(
        names=settings.manage_hosts, ports=settings.manage_ports, time=settings.manage_time
    )


def _spare_plan(host: Host, service: HostSettings) -> HostPlan:
    """Return the plan of a host that is to run nothing of the service."""
    return HostPlan(
        name=host.name,
        address=host.address,
        accelerator=service.accelerator,
        images=(),
        models=(),
        containers=(),
        ports=(),
        memory=0,
        spare=True,
        observe=Observe(service=service.service, models=(), ports=()),
    )


def _runtimes(settings: HostSettings, engines: Sequence[Engine]) -> tuple[Literal["nvidia"], ...]:
    """Return the runtimes that the host's engines need, unless the operator sees to them."""
    if settings.accelerator != "nvidia" or not engines:
        return ()
    return ("nvidia",) if settings.nvidia_runtime else ()


def _neighbours(
    host: Host, inventory: Inventory, instances: Sequence[Instance], router: Router
) -> tuple[str, ...]:
    """Return what other inventory hosts plan on this machine (they have the same address)."""
    others = {o.name for o in inventory.hosts if o.address == host.address} - {host.name}
    if not others:
        return ()
    mine = [name for i in instances for at, name in i.containers if at in others]
    return (*mine, router.id) if router.host in others else tuple(mine)


def _mount_sources(containers: Sequence[Container], models: Sequence[Model]) -> tuple[str, ...]:
    """Return what engines mount of the driver: not the models, which have facts of their own."""
    engines = [container for container in containers if container.kind in COMPUTES]
    sources = {mount.source for engine in engines for mount in engine.spec.mounts}
    own = {source for source in sources if source.startswith(f"{HOME}/")}
    return tuple(sorted(sources - own - {model.path for model in models}))


def _memory(engines: Sequence[Engine]) -> int:
    """Return the bytes that CPU engines will use, besides the weights."""
    return sum(_engine_memory(engine) for engine in engines if engine.accelerator == "cpu")


def _engine_memory(engine: Engine) -> int:
    """Return one CPU engine's bytes on its host; each rank there has the KV memory asked for."""
    instance = engine.instance
    ranks = instance.ranks // (1 + len(instance.parts))
    workers = ranks * WORKER_BYTES if instance.ranks > 1 else 0
    return ENGINE_BYTES + workers + ranks * engine.settings.kv_cache_gib * GIB


def _ports(engines: Sequence[Engine], host: Host, router: Router | None) -> list[ListenPort]:
    """Return all ports that open on one host."""
    every = STACKS[host.settings.stack].everywhere
    ports = [p for e in engines for p in instance_ports(e.instance, every or e.address)]
    return ports + (router_ports(router, _router_bind(host)) if router else [])


def _node_ports(host: Host, inventory: Inventory) -> list[ListenPort]:
    """Return the ports of openYuanrong's node, on a host that has one."""
    return node_ports(host, inventory) if host.roles else []


def _one_path(engines: Mapping[str, Sequence[Engine]]) -> str:
    """Return the model's path, which all engines of openYuanrong's full mode have in common."""
    return next((engine.model_path for mine in engines.values() for engine in mine), "")


def _router_bind(host: Host) -> str:
    """Return the address that the router listens on."""
    settings = host.settings
    return settings.router_bind or STACKS[settings.stack].everywhere or host.address


def _files(models: Sequence[Model], router: Container | None) -> tuple[ManagedFile, ...]:
    """Return what roles write: Docker's settings (where there was no engine), model, members."""
    shipped = [model.path for model in models if model.source == "tiny"]
    mounts = router.spec.mounts if router else ()
    return (
        ManagedFile(path="/etc/docker/daemon.json", required=False),
        *(ManagedFile(path=path, tree=True) for path in shipped),
        *(ManagedFile(path=f"{mount.source}/{MEMBERS_FILE}") for mount in mounts),
    )


def _tiny_problems(host: Host, engines: Sequence[Engine], assets: Assets) -> list[Problem]:
    """Check tensor parallelism against the shipped model; other models are read on the host."""
    if not is_tiny(host.settings):
        return []
    return [
        Problem(
            host=host.name,
            thing=engine.instance.id,
            cause=f"tensor_parallel_size {size} does not divide the {heads} heads of {TINY_NAME}",
            fix=f"use a divisor of {heads}",
        )
        for engine in engines
        for size, heads in [(engine.instance.tensor_parallel_size, assets.tiny_heads)]
        if heads % size
    ]


def _load_problems(engines: Sequence[Engine], *, stores: bool) -> list[Problem]:
    """Check that what loads weights from the data system has one."""
    return [
        Problem(
            host=engine.instance.host,
            thing=engine.instance.id,
            cause=f"load_format {engine.settings.load_format}, but the service has no data system",
            fix="set pd_stack to yuanrong, or load_format to auto",
        )
        for engine in engines
        if engine.settings.load_format == "yuanrong" and not stores
    ]


def _id_problems(instances: Sequence[Instance], *, parts: bool) -> list[Problem]:
    """Check that no two instances have one id. parts: whether theirs are containers of their own.

    On Ray they are not: those of all instances on a host are in its one node.
    """
    names = {
        id(instance): [name for _, name in instance.containers[: None if parts else 1]]
        for instance in instances
    }
    count = Counter(name for mine in names.values() for name in mine)
    return [
        Problem(
            host=instance.host,
            thing=f"instance {instance.id}",
            cause=f"{max(count[name] for name in names[id(instance)])} instances have this name",
            fix="give each entry of pd_instances a name of its own",
        )
        for instance in instances
        if instance.id == "router" or any(count[name] > 1 for name in names[id(instance)])
    ]


def _loopback_problems(inventory: Inventory) -> list[Problem]:
    """Several machines cannot reach each other by loopback addresses."""
    hosts = {host.address for host in inventory.hosts}
    return [
        Problem(
            host=host.name,
            thing=f"address {host.address}",
            cause="the other hosts cannot reach it",
            fix="set pd_address to an address of the network between the hosts",
        )
        for host in inventory.hosts
        if is_loopback(host.address) and len(hosts) > 1
    ]


def _served_name(inventory: Inventory) -> str:
    """Return the name that clients use: of a host with engines, they all have the same."""
    return next(model_name(host.settings) for host in inventory.hosts if host.roles)


def _model_name_problems(inventory: Inventory) -> list[Problem]:
    """Check that all engines serve one name."""
    names = {model_name(host.settings): host.name for host in inventory.hosts if host.roles}
    if len(names) < 2:
        return []
    seen = " and ".join(f"{name} on {host}" for name, host in names.items())
    fix = "give all hosts one model, or its copies one pd_model_name"
    cause = f"engines would serve different names: {seen}"
    return [Problem(host="inventory", thing="pd_model_path", cause=cause, fix=fix)]
