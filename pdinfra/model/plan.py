"""The plan: every decision about a service, as data. Roles render it and decide nothing."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pdinfra.model.inventory import Accelerator, ImageSource, Role, Stack

LABEL_SERVICE = "pdinfra.service"
LABEL_INSTANCE = "pdinfra.instance"
LABEL_ROLE = "pdinfra.role"
LABEL_SPEC = "pdinfra.spec"
LABEL_ENV = "pdinfra.env"
"""Names of the planned variables: an inspected container mixes them with its image's own."""
LABEL_USER = "pdinfra.user"
"""The planned user: an inspected container has its image's, where none is planned."""


MEMBERS_FILE = "members.json"
DriverKind = Literal["driver", "firmware"]


class Frozen(BaseModel):
    """Base of everything in a plan: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ContainerKind = Literal["etcd", "worker", "master", "agent", "head", "node", "instance", "router"]
"""What a container is of the service.

A worker is one of openYuanrong's data system; master and agent are nodes of its full mode, which
have the data system and the engines inside. Head and node are those of a Ray cluster.
"""
COMPUTES: tuple[ContainerKind, ...] = ("instance", "master", "agent", "head", "node")
"""Containers that engines run in: they have devices, shared memory and the model."""


class Mount(Frozen):
    """A bind mount; ``source`` must exist on the host before the container is made."""

    source: str
    target: str
    read_only: bool = True


class Healthcheck(Frozen):
    """Docker's healthcheck; durations in seconds."""

    test: tuple[str, ...]
    interval: int
    timeout: int
    retries: int
    start_period: int


class ContainerSpec(Frozen):
    """What makes a container what it is. Two equal specs are the same container.

    The command is all that runs: an image's own entrypoint is left out (vllm/vllm-openai has one).
    ``pid_mode`` None: processes of its own. Sizes are bytes; ``memory`` 0 means no limit. ``gpus``
    are NVIDIA device ids. ``user`` None is the image's own.
    """

    image: str
    command: tuple[str, ...]
    env: dict[str, str]
    devices: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network_mode: str = "host"
    ipc_mode: str = "private"
    pid_mode: str | None = None
    shm_size: int
    memory: int = 0
    ulimits: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ("ALL",)
    security_opts: tuple[str, ...] = ("no-new-privileges",)
    privileged: bool = False
    init: bool = True
    restart_policy: str = "unless-stopped"
    stop_timeout: int = 30
    healthcheck: Healthcheck
    user: str | None = None
    log_max_size: str = "50m"
    log_max_file: str = "3"

    @property
    def digest(self) -> str:
        """The ``pdinfra.spec`` label: 16 hex digits over the canonical JSON of the spec."""
        # Without what is not set: a field that is new in this class changes no container.
        data = self.model_dump(mode="json", exclude_none=True)
        text = json.dumps(data, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Container(Frozen):
    """One container of the plan, with its labels."""

    id: str
    name: str
    kind: ContainerKind
    role: str
    host: str
    spec: ContainerSpec
    labels: dict[str, str]


class OperatorFiles(Frozen):
    """What of the operator's goes into an image: absolute paths on the controller.

    ``manifest`` is the list of the patches for the build, JSON.
    """

    wheels: tuple[str, ...]
    patches: tuple[str, ...]
    manifest: str
    scripts: str


class Image(Frozen):
    """An image that a machine needs, and how it gets there.

    ``remote`` is its name in the registry: what is pulled (mirror and digest included), or what a
    built image is pushed as.
    """

    ref: str
    source: ImageSource
    digest: str | None = None
    archive: str | None = None
    definition: str | None = None
    base: str = "mmdebstrap"
    remote: str | None = None
    operator: OperatorFiles | None = None


class Model(Frozen):
    """A model directory that a host needs, and how it gets there.

    Sources: ``directory`` somebody put there, ``tiny`` is the one that pdinfra ships, the hubs, and
    ``host``: from the inventory host ``origin``. ``repo`` and ``revision`` say which model it is;
    what comes from a hub or a host leaves them in a manifest beside the weights.
    """

    path: str
    source: Literal["directory", "tiny", "huggingface", "modelscope", "host"]
    tensor_parallel_sizes: tuple[int, ...] = ()
    repo: str = ""
    revision: str = ""
    endpoint: str = ""
    files: tuple[str, ...] = ()
    sha256: dict[str, str] = {}
    origin: str = ""

    @property
    def delivery(self) -> str:
        """How `up` gets it onto the host, as a command: ``download A/B at 1a2b3c4 from ...``."""
        if self.source == "tiny":
            return "copy the tiny model"
        if self.source == "host":
            return f"copy it from {self.origin}"
        if self.source == "directory":
            return "put it there"
        return f"download {self.repo} at {self.revision[:12]} from {self.endpoint}"


class Share(Frozen):
    """The model that a host hands to others while they copy it: where it listens, what it gives."""

    path: str
    address: str
    port: int
    repo: str
    revision: str


class Part(Frozen):
    """What of an instance is on one of its further hosts: workers without an API."""

    id: str
    host: str
    address: str
    devices: tuple[int, ...]
    container: str


class Instance(Frozen):
    """One engine: where it is and what it owns.

    ``kv_ports`` ports from ``kv_port`` on are its connector's. What is not planned is 0.
    ``load_format`` is where its weights come from: ``auto`` (disk) or ``yuanrong``. ``parts`` are
    on its further hosts, in their order; all find each other by ``master_port`` on ``host``, whose
    cards alone are in ``devices``.
    """

    id: str
    role: Role
    host: str
    url: str
    port: int
    kv_port: int
    kv_ports: int
    internal_port: int
    devices: tuple[int, ...]
    tensor_parallel_size: int
    container: str
    load_format: str = "auto"
    pipeline_parallel_size: int = 1
    master_port: int = 0
    parts: tuple[Part, ...] = ()

    @property
    def ranks(self) -> int:
        """Workers of the whole instance, over all of its hosts."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def containers(self) -> tuple[tuple[str, str], ...]:
        """Host and id of each of its containers, the one with the API first."""
        return tuple((host, name) for host, name, _ in self.places)

    @property
    def places(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """Host, id and cards of each of its containers, the one with the API first."""
        parts = ((part.host, part.id, part.devices) for part in self.parts)
        return ((self.host, self.id, self.devices), *parts)


class Member(Frozen):
    """An instance as the router knows it.

    ``kv`` is where its connector is asked for KV, if the router must name it: ``address:port`` of
    P2pNcclConnector, the URL of MooncakeConnector's bootstrap server on prefill; else empty.
    """

    id: str
    role: Role
    url: str
    kv: str = ""


class Router(Frozen):
    """The OpenAI-compatible entry. ``url`` is the one that clients use.

    Its members are not part of its container: they are a file in ``members_dir`` on the host. A
    ``static`` one is told its members when it starts; it is started after them. ``internal_port``
    is 0 where no vllm-router runs behind it.
    """

    id: str = "router"
    host: str
    url: str
    port: int
    metrics_port: int
    internal_port: int
    container: str
    members: tuple[Member, ...]
    members_dir: str
    drain_seconds: int
    static: bool = False


class EtcdMember(Frozen):
    """One member of etcd: by TLS only, but for the one inside of openYuanrong's full mode."""

    id: str
    host: str
    url: str
    peer_url: str
    container: str


class Worker(Frozen):
    """A host's worker of the data system: engines on the host talk to it, and it to its peers."""

    id: str
    host: str
    address: str
    port: int
    container: str
    data_bytes: int

    @property
    def endpoint(self) -> str:
        """Return ``address:port``, the worker's name in etcd."""
        return f"{self.address}:{self.port}"


class Store(Frozen):
    """openYuanrong's data system: the workers that keep the data, etcd that knows the workers.

    ``authority`` is the SHA-256 of the certificate of the service's own authority, as the
    controller has it; empty before the first run made one. ``lister`` is the command, in an etcd
    member's container, that prints etcd's keys of members; ``client`` the one, in a worker's, that
    takes ``ADDRESS put|get KEY [VALUE]``. ``master`` is a member of etcd that is no worker.
    """

    etcd: tuple[EtcdMember, ...]
    workers: tuple[Worker, ...]
    authority: str = ""
    lister: tuple[str, ...] = ("etcdctl", "get", "--prefix", "/datasystem/cluster")
    client: tuple[str, ...] = ("pd-datasystem-key",)
    master: str = ""


class Node(Frozen):
    """One host of openYuanrong's full mode: its data system, its function system, its engines."""

    id: str
    host: str
    address: str
    container: str
    master: bool


class Cluster(Frozen):
    """openYuanrong's full mode: nodes, and the engines that it places on them as its actors.

    ``count``, ``deploy`` and ``clean`` are commands in the master's container. ``digest`` is what
    the deployment is made from; the host of the master has it in the file ``deployed`` once it is
    made, and in ``agents`` how many nodes ``yr status`` counted last.
    """

    nodes: tuple[Node, ...]
    count: tuple[str, ...]
    deploy: tuple[str, ...]
    clean: tuple[str, ...]
    digest: str
    deployed: str
    agents: str
    summary: str

    @property
    def master(self) -> Node:
        """The node that has etcd and the masters."""
        return next(node for node in self.nodes if node.master)


class RayNode(Frozen):
    """One host of a Ray cluster, and what it says it has: Ray places by these words alone."""

    id: str
    host: str
    address: str
    container: str
    head: bool
    resources: dict[str, float]


class Replica(Frozen):
    """One engine that Ray Serve keeps: what the plan counts on a host, not a container.

    ``told`` is how `vllm serve` would start the same engine, for what is estimated of it.
    """

    id: str
    role: Role
    host: str
    address: str
    deployment: str
    instance: Instance
    told: tuple[str, ...]


class RayCluster(Frozen):
    """A Ray cluster, and what is on it.

    ``status`` is the command, in the head's container, that prints nodes and resources.
    ``dashboard`` is the URL that Ray Serve is asked by, on the head's host. ``replicas`` are empty
    where the engines are containers, whose workers Ray starts. ``metrics_port`` is each node's.
    ``least``: replicas of each role that Ray keeps when there is little to do; None: all.
    """

    mode: Literal["serve", "executor"]
    address: str
    dashboard: str
    metrics_port: int
    status: tuple[str, ...]
    nodes: tuple[RayNode, ...]
    replicas: tuple[Replica, ...] = ()
    least: int | None = None

    def fewest(self, role: str) -> int:
        """Return how many replicas of a role there always are."""
        planned = sum(replica.role == role for replica in self.replicas)
        return planned if self.least is None else min(self.least, planned)

    @property
    def head(self) -> RayNode:
        """The one node that all others join."""
        return next(node for node in self.nodes if node.head)

    @property
    def resources(self) -> dict[str, float]:
        """What all nodes have together, by name."""
        names = sorted({name for node in self.nodes for name in node.resources})
        return {n: sum(node.resources.get(n, 0) for node in self.nodes) for n in names}


class RankTables(Frozen):
    """Which rank tables the engines read, and where hosts keep them: ``folder/DIGEST/FILE``.

    A folder's name is the digest of what its readers depend on, and part of their environment: a
    container that reads another table is another container, and one that starts again by itself
    finds what it had. The tables' text needs the devices' addresses, so it comes after the facts.
    """

    format: Literal["ascendcloud", "vllm-ascend"]
    folder: str
    environment: tuple[str, ...]


class Identity(Frozen):
    """The files of a host's certificate: ``folder`` has ca.crt, node.crt and node.key.

    It is for the host's ``address``, and for the ``name`` that all members of etcd have in common.
    """

    folder: str
    address: str
    name: str


class DriverPackage(Frozen):
    """A vendor's package that a host must have installed. ``arch`` None: made for all."""

    kind: DriverKind
    version: str
    path: str
    sha256: str
    arch: str | None = None


class DriverPlan(Frozen):
    """The driver and firmware of a host. ``on_host`` tells where the packages' paths lead."""

    packages: tuple[DriverPackage, ...]
    on_host: bool = False
    reboot_allowed: bool = False


class ListenPort(Frozen):
    """A TCP port that a container of the plan opens on its host, at this address."""

    port: int
    address: str
    owner: str
    purpose: str


class ManagedFile(Frozen):
    """A file that a role of pdinfra writes on a host, owned by root.

    ``tree`` is a directory with all that is below it: ``mode`` is that of its files. A file that is
    not ``required`` is only written where the role has something to do.
    """

    path: str
    mode: str = "0644"
    tree: bool = False
    directory_mode: str = "0755"
    required: bool = True


class Observe(Frozen):
    """What the facts module has to look at on one host (its arguments)."""

    service: str
    models: tuple[str, ...]
    ports: tuple[int, ...]
    accelerator: Accelerator = "cpu"
    devices: tuple[int, ...] = Field((), description="Physical ids that the host's instances own.")
    mounts: tuple[str, ...] = Field((), description="Sources of the engines besides the models.")
    archives: tuple[str, ...] = ()
    names: tuple[str, ...] = Field((), description="Names of the other machines, to resolve.")
    router: str = Field("", description="URL to ask for the members, on the router's host.")
    serve: str = Field("", description="URL to ask for Ray Serve's applications, on the head.")
    certificates: tuple[str, ...] = Field((), description="Certificates to read, without keys.")
    notes: tuple[str, ...] = Field((), description="Small files to read, that containers write.")
    rank_tables: str = Field("", description="Folder of rank tables, read whole; empty: none.")


class Basics(Frozen):
    """What a host that works with other machines gets of its own system, as the user allows."""

    names: bool = Field(description="The hosts' names lead to their addresses, in /etc/hosts.")
    ports: bool = Field(description="The kernel keeps planned ports from outgoing connections.")
    time: bool = Field(description="Something sets the clock.")


class HostPlan(Frozen):
    """Everything that one host must become."""

    name: str
    address: str
    accelerator: Accelerator
    images: tuple[Image, ...]
    published: dict[str, Image] = Field(
        {},
        description="By name in `images`: what the controller builds and pushes if it is missing.",
    )
    models: tuple[Model, ...]
    share: Share | None = None
    containers: tuple[Container, ...]
    ports: tuple[ListenPort, ...]
    files: tuple[ManagedFile, ...] = ()
    memory: int = Field(description="Bytes that the planned containers are expected to use.")
    spare: bool = Field(False, description="In no group: only to be emptied of the service.")
    neighbours: tuple[str, ...] = Field(
        (), description="Containers that other inventory hosts plan on this same machine."
    )
    identity: Identity | None = Field(
        None, description="None where no part of the service talks by TLS."
    )
    driver: DriverPlan | None = Field(
        None, description="None where pdinfra leaves driver and firmware as they are."
    )
    runtimes: tuple[Literal["nvidia"], ...] = Field(
        (), description="Container runtimes that pdinfra makes known to Docker."
    )
    registry_mirrors: tuple[str, ...] = ()
    pip_args: tuple[str, ...] = ()
    basics: Basics | None = Field(None, description="None where all hosts are one machine.")
    observe: Observe


class Plan(Frozen):
    """Every decision about one service."""

    service: str
    stack: Stack
    accelerator: Accelerator
    connector: str
    protocol: str
    model_name: str
    together: bool = Field(
        False, description="Engines find each other only when they start: all start together."
    )
    convergeable: bool = Field(description="False while the roles of this stack are not built yet.")
    instances: tuple[Instance, ...]
    router: Router
    store: Store | None = None
    cluster: Cluster | None = Field(
        None, description="openYuanrong's full mode: `instances` is empty, they are its actors."
    )
    ray: RayCluster | None = Field(
        None, description="With replicas, `instances` is empty: Ray Serve keeps them."
    )
    rank_tables: RankTables | None = None
    shared_path: str = Field(
        "", description="Folder that all engines share for KV; empty where they share none."
    )
    hosts: tuple[HostPlan, ...]

    @property
    def spans_machines(self) -> bool:
        """Tell whether the service lives on several machines (hosts of one address are one)."""
        return len({host.address for host in self.active}) > 1

    @property
    def active(self) -> tuple[HostPlan, ...]:
        """The hosts that run something of the service."""
        return tuple(host for host in self.hosts if not host.spare)

    def host(self, name: str) -> HostPlan:
        """Return one host's part. Raises KeyError for a host without any."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    @property
    def engines(self) -> tuple[Instance, ...]:
        """Everything that computes and is placed by the plan: Ray Serve's replicas, too."""
        replicas = self.ray.replicas if self.ray else ()
        return self.instances or tuple(replica.instance for replica in replicas)

    def by_role(self, role: Role) -> tuple[Instance, ...]:
        """Return the instances of one role, in the plan's order."""
        return tuple(instance for instance in self.instances if instance.role == role)

    def dump(self) -> dict[str, Any]:
        """Return plain data (JSON types only) for Ansible and for ``--json``."""
        return self.model_dump(mode="json")
