"""The inventory: what a user writes. Every variable of pdinfra is defined here, once.

Variables start with ``pd_`` and live where Ansible looks for them (group_vars, host_vars, the hosts
file). Settings of an instance can be given, from weakest to strongest, as ``pd_<setting>``, inside
``pd_prefill`` / ``pd_decode`` / ``pd_mixed`` (all instances of that role), and inside an entry of
``pd_instances`` (that instance alone).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

Role = Literal["prefill", "decode", "mixed"]
Stack = Literal["native", "yuanrong", "ascendcloud", "ray"]
Accelerator = Literal["cpu", "nvidia", "ascend"]
ImageSource = Literal["build", "pull", "load"]
ModelSource = Literal["directory", "huggingface", "modelscope"]

ROLES: tuple[Role, ...] = ("prefill", "decode", "mixed")
MOST_GIB = 65536
"""More than any host has: a slip of the pen."""
MOST_RANKS = 1024
GROUPS: tuple[str, ...] = (*ROLES, "router", "etcd")

Port = Annotated[int, Field(ge=1024, le=65535)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/\S*$")]
RegistryPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*$")]
"""A registry's host, with a folder where wanted: ``quay.io/pdinfra``, ``127.0.0.1:5443``."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Repository = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
]
Revision = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]
Endpoint = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$")]
"""Without credentials: it is part of the plan."""
FileName = Annotated[str, StringConstraints(pattern=r"^[^/\s]+$")]
YuanrongPort = Literal[
    "etcd",
    "etcd_peer",
    "ds_master",
    "ds_worker",
    "function_master",
    "function_proxy",
    "function_proxy_grpc",
    "function_proxy_exec",
    "function_agent",
    "runtime_init",
]
RayPort = Literal[
    "gcs",
    "client",
    "dashboard",
    "node_manager",
    "object_manager",
    "runtime_env",
    "agent_grpc",
    "agent",
    "metrics",
    "workers",
]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class InstanceSettings(BaseModel):
    """Settings of one vLLM engine. Unset ones get the default of the role and the accelerator."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    port: Port | None = Field(
        None,
        description=(
            "API port. Default: 8100 prefill, 8200 decode, 8300 mixed, plus the index on the host."
        ),
    )
    kv_port: Port | None = Field(
        None,
        description=(
            "First port of the KV side channel (one per tensor-parallel rank). Default: 5600, "
            "5700, 5800 by role (ascend: 36000, 36200, 36400), plus index times ranks."
        ),
    )
    internal_port: Port | None = Field(
        None,
        description=(
            "First of 8 ports for the engine's own processes (VLLM_PORT). Default: 12000 plus 8 "
            "per instance on the host."
        ),
    )
    devices: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        description=(
            "Physical ids of the cards this instance owns; as pd_devices, the pool that the "
            "host's instances are given theirs from. Default: the next free ones."
        ),
    )
    tensor_parallel_size: int | None = Field(
        None,
        ge=1,
        le=MOST_RANKS,
        description="Cards that one copy of the model is split over. Default: 1.",
    )
    pipeline_parallel_size: int | None = Field(
        None,
        ge=1,
        le=MOST_RANKS,
        description=(
            "native and ray, on nvidia only: parts that the model's layers are split into, each "
            "on tensor_parallel_size cards. Default: 1."
        ),
    )
    master_port: Port | None = Field(
        None,
        description=(
            "Port on its first host by which an instance over several hosts finds its parts; not "
            "on ray, which finds them itself. Default: 29600 plus the index on the host."
        ),
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = Field(
        None,
        description="Weights' and KV's type. Default: auto; on CPU float32.",
    )
    max_model_len: int | None = Field(
        None,
        ge=16,
        description=(
            "Longest prompt plus answer, tokens. Default: the model's own; on CPU 8192, "
            "ascendcloud 4096."
        ),
    )
    block_size: int | None = Field(
        None,
        ge=1,
        description="KV block size, tokens. Default: vLLM's; on CPU a multiple of 32.",
    )
    max_num_seqs: int | None = Field(
        None,
        ge=1,
        description="Most sequences that are computed at once. Default: vLLM's; ascendcloud 256.",
    )
    max_num_batched_tokens: int | None = Field(
        None,
        ge=16,
        description=(
            "Most tokens of one step. Default: vLLM's; ascendcloud max_model_len, which it must "
            "not be below there."
        ),
    )
    quantization: str | None = Field(
        None,
        min_length=1,
        description="How the weights are quantized, for vLLM's --quantization. Default: not.",
    )
    gpu_memory_utilization: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of a card's memory that vLLM takes.",
    )
    kv_cache_gib: int | None = Field(
        None,
        ge=1,
        description="CPU only: memory for KV, GiB. Default: 1.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="CPU only: OpenMP threads per worker. Default: 1.",
    )
    memory_gib: float | None = Field(
        None,
        gt=0,
        le=MOST_GIB,
        description="Memory limit of the container, GiB. Default: none.",
    )
    shm_gib: float | None = Field(
        None,
        gt=0,
        le=MOST_GIB,
        description=(
            "/dev/shm of the container, GiB; vLLM dies with Docker's 64 MiB. Default: 1 on cpu, "
            "16 on nvidia, 64 on ascend."
        ),
    )
    load_format: Literal["auto", "yuanrong"] | None = Field(
        None,
        description=(
            "How weights come into the engine. yuanrong, on the stack of that name: from the data "
            "system, where the first instance left them; from disk if there is any doubt. Default: "
            "auto, from disk."
        ),
    )
    enforce_eager: bool | None = Field(
        None,
        description="Run without graph capture. Default: true on CPU, else false.",
    )
    env: dict[EnvName, str] | None = Field(
        None,
        description="More environment variables; wins over pdinfra's own. No secrets here.",
    )
    engine_args: list[str] | None = Field(
        None,
        description="More arguments for `vllm serve`, one item each.",
    )
    privileged: bool | None = Field(
        None,
        description=(
            "Run the container with --privileged. Default: false, exactly the devices of the plan."
        ),
    )


class InstanceEntry(InstanceSettings):
    """One entry of ``pd_instances``: an instance on this host, with what is special about it."""

    role: Role = Field(
        description="prefill, decode or mixed; the host must be in the group of that name.",
    )
    name: Name | None = Field(None, description="Its id. Default: <role>-<host>-<index>.")
    hosts: list[Annotated[str, StringConstraints(min_length=1)]] | None = Field(
        None,
        min_length=1,
        description=(
            "native and ray: further hosts of the inventory over which this instance goes, in "
            "their order after this one; tensor_parallel_size times pipeline_parallel_size cards "
            "are split evenly over all of them. Default: none."
        ),
    )


class YuanrongPatch(BaseModel):
    """One patch that the engines' image gets before it is used."""

    model_config = ConfigDict(extra="forbid")

    path: AbsolutePath = Field(description="The file, on the machine that runs pdinfra.")
    sha256: Sha256 = Field(description="sha256 of the file, from where you got it.")
    target: AbsolutePath = Field(
        "/vllm-workspace/vllm-ascend", description="The git repository in the image."
    )
    tool: Literal["am", "apply"] = Field(
        "am", description="am for a mail of `git format-patch`, apply for a bare diff."
    )


class HostSettings(InstanceSettings):
    """All variables that a host can have (with ``pd_`` in front of each name)."""

    model_config = ConfigDict(
        extra="forbid", coerce_numbers_to_str=True, alias_generator=lambda name: f"pd_{name}"
    )

    service: Name = Field(
        "pd",
        description="Name of the service; part of every container's name. The same on all hosts.",
    )
    stack: Stack = Field("native", description="How instances are wired. The same on all hosts.")
    accelerator: Accelerator = Field(
        "cpu",
        description="What the engines compute on. The same on all hosts.",
    )
    connector: str = Field(
        "NixlConnector",
        min_length=1,
        description=(
            "vLLM's KV connector: its class, or its family (nixl, shared-storage, nccl, lmcache, "
            "mooncake, multi), of which the image's version then decides the class. The same on "
            "all hosts."
        ),
    )
    multi_connectors: list[Annotated[str, StringConstraints(min_length=1)]] = Field(
        default_factory=lambda: ["nixl", "shared-storage"],
        min_length=2,
        description="multi only: the connectors inside, in their order. The same on all hosts.",
    )
    offload_gib: int = Field(
        8,
        ge=1,
        le=MOST_GIB,
        description="multi with offload inside: host memory for KV of each engine, GiB.",
    )
    vllm_version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+(\.\d+)?$")] | None = Field(
        None,
        description=(
            "Version of vLLM in the image, such as 0.8.5. Default: the one that the image's name "
            "tells, as in vllm/vllm-openai:v0.8.5. The same on all hosts."
        ),
    )
    kv_path: AbsolutePath | None = Field(
        None,
        description=(
            "shared-storage only: folder for KV that is the same one on all hosts with engines, "
            "such as an NFS mount; put there by you. Default on one machine: "
            "/var/lib/pdinfra/<service>/kv."
        ),
    )

    model_path: AbsolutePath | None = Field(
        None,
        description=(
            "The model's directory on the host; with a hub, the folder in which each revision gets "
            "a directory of its own. Default: pdinfra's own tiny model; with a hub, "
            "/var/lib/pdinfra/models/<model_repo>."
        ),
    )
    model_name: str | None = Field(
        None,
        min_length=1,
        description=(
            "Name that clients use in requests. Default: last part of model_path or of "
            "model_repo. The same on all hosts."
        ),
    )
    model_source: ModelSource | None = Field(
        None,
        description=(
            "directory (you put model_path on the host), or the hub that the host downloads "
            "model_repo from: huggingface or modelscope. Default: directory if model_path is set."
        ),
    )
    model_repo: Repository | None = Field(
        None,
        description="The model on the hub, such as Qwen/Qwen2.5-7B-Instruct.",
    )
    model_revision: Revision | None = Field(
        None,
        description=(
            "What is downloaded, pinned: the commit (40 hex digits) on Hugging Face, a commit or "
            "a tag on ModelScope. No default."
        ),
    )
    model_endpoint: Endpoint | None = Field(
        None,
        description=(
            "The hub's address, or its mirror's. Default: https://huggingface.co, "
            "https://www.modelscope.cn."
        ),
    )
    model_files: list[Annotated[str, StringConstraints(min_length=1)]] | None = Field(
        None,
        min_length=1,
        description=(
            "Patterns of the files to download. Default: everything but formats that vLLM does "
            "not read when there are safetensors."
        ),
    )
    model_sha256: dict[str, Sha256] = Field(
        default_factory=dict,
        description="File to sha256 that it must have, besides what the hub itself says.",
    )
    model_from: str | None = Field(
        None,
        min_length=1,
        description=(
            "Inventory host that gets the model by model_source, once; this host copies it from "
            "there. Default: every host gets its own."
        ),
    )
    model_port: Port = Field(
        8990,
        description="Port of the host that model_from names, open while others copy from it.",
    )
    hub_token: SecretStr | None = Field(
        None,
        description=(
            "Token for the hub; keep it in Ansible Vault. Default: the environment variable "
            "PD_HUB_TOKEN of the machine that runs pdinfra. It is never in the plan."
        ),
    )

    image: str | None = Field(
        None,
        min_length=1,
        description="Engine image, name:tag. Default on CPU: built on the host.",
    )
    image_digest: Digest | None = Field(
        None,
        description="sha256 digest that the pulled image must have.",
    )
    image_source: ImageSource | None = Field(
        None,
        description=(
            "build, pull or load (docker load of image_archive). Default: build if no image is "
            "named, else pull."
        ),
    )
    image_archive: AbsolutePath | None = Field(
        None,
        description="Tar file on the host, for image_source load.",
    )
    router_image: str | None = Field(
        None,
        min_length=1,
        description="Router image, name:tag. Default: built on the host.",
    )
    router_image_digest: Digest | None = Field(
        None,
        description="As image_digest, for the router.",
    )
    router_image_source: ImageSource | None = Field(
        None,
        description="As image_source, for the router.",
    )
    router_image_archive: AbsolutePath | None = Field(
        None,
        description="As image_archive, for the router.",
    )
    yuanrong_image: str | None = Field(
        None,
        min_length=1,
        description="yuanrong only: image of etcd and the data system. Default: built on the host.",
    )
    yuanrong_image_digest: Digest | None = Field(
        None,
        description="As image_digest, for the data system.",
    )
    yuanrong_image_source: ImageSource | None = Field(
        None,
        description="As image_source, for the data system.",
    )
    yuanrong_image_archive: AbsolutePath | None = Field(
        None,
        description="As image_archive, for the data system.",
    )
    image_base: str = Field(
        "mmdebstrap",
        min_length=1,
        description="Root filesystem of built images: mmdebstrap, or a Debian 12 image's name.",
    )
    image_registry: RegistryPath | None = Field(
        None,
        description=(
            "Registry, with a folder, that hosts pull pdinfra's own images from, such as "
            "registry.example.com/pdinfra. The controller builds what is missing there and pushes "
            "it, once for all hosts. Default: every host builds its own."
        ),
    )
    image_push: RegistryPath | None = Field(
        None,
        description=(
            "image_registry as the controller reaches it to push. Default: image_registry."
        ),
    )
    image_mirror: RegistryPath | None = Field(
        None,
        description=(
            "Prefix that named images are pulled through, such as m.daocloud.io; they keep their "
            "own names. Default: none."
        ),
    )
    pip_args: list[str] = Field(
        default_factory=list,
        description="More arguments for pip where images are built, such as an index.",
    )
    registry_mirrors: list[str] = Field(
        default_factory=list,
        description="Docker Hub mirrors written to the engine's daemon.json.",
    )

    nvidia_runtime: bool = Field(
        True,
        description=(
            "nvidia only: install NVIDIA's container toolkit and make it known to Docker. Turned "
            "off, that is yours to do."
        ),
    )

    driver_package: AbsolutePath | None = Field(
        None,
        description=(
            "ascend only: the driver's .run package, on the machine that runs pdinfra. Default: "
            "the host's driver is left as it is."
        ),
    )
    driver_sha256: Sha256 | None = Field(
        None,
        description="sha256 of driver_package; without it the package is not run.",
    )
    driver_version: str | None = Field(
        None,
        min_length=1,
        description="Version that driver_package installs. Default: the one in its file name.",
    )
    firmware_package: AbsolutePath | None = Field(
        None,
        description="As driver_package, for the firmware.",
    )
    firmware_sha256: Sha256 | None = Field(
        None,
        description="As driver_sha256, for the firmware.",
    )
    firmware_version: str | None = Field(
        None,
        min_length=1,
        description="As driver_version, for the firmware.",
    )
    packages_on_host: bool = Field(
        False,
        description="driver_package and firmware_package are paths on the host itself.",
    )
    reboot_allowed: bool = Field(
        False,
        description=(
            "Reboot the host when a driver or firmware needs it to come into force, and go on "
            "after it. Turned off, the run stops there and says so."
        ),
    )

    address: str | None = Field(
        None,
        min_length=1,
        description=(
            "Address that the other hosts reach this one by. Default: ansible_host; 127.0.0.1 for"
            " a local connection."
        ),
    )
    manage_hosts: bool = Field(
        True,
        description=(
            "Keep a block in /etc/hosts by which the names of all hosts lead to their addresses. "
            "Only where the service spans several machines."
        ),
    )
    manage_ports: bool = Field(
        True,
        description=(
            "Reserve planned ports that lie in the kernel's range for outgoing connections "
            "(net.ipv4.ip_local_reserved_ports). Only where the service spans several machines."
        ),
    )
    manage_time: bool = Field(
        False,
        description=(
            "Install chrony where nothing sets the clock. Only where the service spans several "
            "machines; a container has its machine's clock."
        ),
    )
    router_port: Port = Field(8000, description="Port of the OpenAI-compatible entry.")
    router_metrics_port: Port = Field(
        9001,
        description="Port of the router's Prometheus metrics.",
    )
    router_internal_port: Port = Field(
        8010,
        description=(
            "First of 4 loopback ports for the two vllm-router processes that a change of members "
            "hands over between."
        ),
    )
    drain_seconds: int = Field(
        300,
        ge=0,
        le=86400,
        description="How long the running requests of a member that leaves are waited for.",
    )
    router_bind: str | None = Field(
        None,
        min_length=1,
        description="Address the router listens on. Default: the host's address.",
    )
    router_policy: Literal[
        "round_robin", "least_busy", "random", "cache_aware", "power_of_two", "consistent_hash"
    ] = Field(
        "round_robin",
        description=(
            "How the router spreads requests: round_robin everywhere, least_busy where pdinfra's "
            "own proxy answers, the others where vllm-router does (docs/connectors.md)."
        ),
    )

    prefill_batching_policy: Literal["fcfs", "gtsf"] | None = Field(
        None,
        description=(
            "ascendcloud only: the order in which prefill instances take requests: as they came, "
            "or grouped by length with the shortest wait first. Default: fcfs."
        ),
    )
    prefill_routing_policy: Literal["RoundRobin", "FreeKVFirst", "BLB"] | None = Field(
        None,
        description=(
            "ascendcloud only: which prefill instance the scheduler gives a request to: the next "
            "one, the one with most free KV, the one with fewest waiting. Default: RoundRobin."
        ),
    )
    llm_tools_path: AbsolutePath = Field(
        "/home/ma-user/AscendCloud/AscendCloud-LLM/llm_tools",
        description="ascendcloud only: the guide's LLM_TOOLS_PATH, a folder of pd_image.",
    )
    container_user: str | None = Field(
        None,
        min_length=1,
        description=(
            "ascendcloud only: user of pd_image that instances and scheduler run as. Default: "
            "ma-user."
        ),
    )

    etcd_port: Port = Field(2379, description="yuanrong only: etcd's port for its clients.")
    etcd_peer_port: Port = Field(2380, description="yuanrong only: etcd's port for its members.")
    datasystem_port: Port = Field(
        31501,
        description="yuanrong only: port of the host's data system worker.",
    )
    datasystem_gib: float = Field(
        4,
        gt=0,
        le=MOST_GIB,
        description=(
            "yuanrong only: memory that the host's worker keeps KV blocks and weights in, GiB. "
            "What is used least goes when it is full."
        ),
    )
    datasystem_timeout_seconds: int = Field(
        20,
        ge=5,
        le=3600,
        description=(
            "yuanrong only: a worker that is silent for so long counts as gone. The programs' own "
            "default hides a dead host for half an hour."
        ),
    )

    yuanrong_wheels_dir: AbsolutePath | None = Field(
        None,
        description=(
            "YuanRongConnector only: folder with openYuanrong's wheels, on the machine that runs "
            "pdinfra."
        ),
    )
    yuanrong_wheels: dict[FileName, Sha256] = Field(
        default_factory=dict,
        description=(
            "YuanRongConnector only: the wheels in that folder, each file's name with its sha256; "
            "one whole set of one version, and what it needs besides and the image lacks."
        ),
    )
    yuanrong_machine: Literal["x86_64", "aarch64"] = Field(
        "x86_64",
        description="YuanRongConnector only: what the hosts, and so the wheels, are made for.",
    )
    yuanrong_patches: list[YuanrongPatch] = Field(
        default_factory=list,
        description=(
            "YuanRongConnector only: patches of the engines' image, in their order. Without the "
            "guide's one vLLM does not know the connector."
        ),
    )
    yuanrong_scripts_dir: AbsolutePath | None = Field(
        None,
        description=(
            "YuanRongConnector only: folder with run_vllm_on_yr.sh and all files beside it, on the "
            "machine that runs pdinfra."
        ),
    )
    yuanrong_ports: dict[YuanrongPort, Port] = Field(
        default_factory=dict,
        description=(
            "YuanRongConnector only: ports of openYuanrong's parts, by name. Default: the guides' "
            "22440 and 22441 for etcd, openYuanrong's own for the others, all of them pinned."
        ),
    )

    ray_mode: Literal["serve", "executor"] = Field(
        "serve",
        description=(
            "ray only: serve is Ray Serve LLM, which keeps replicas of the model on the cluster "
            "and spreads requests over them; executor is one `vllm serve` whose workers Ray starts "
            "on several hosts (docs/ray.md). The same on all hosts."
        ),
    )
    ray_version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+(\.\d+)?$")] | None = Field(
        None,
        description=(
            "ray only: version of Ray in the image. Default: the one that the image's name tells, "
            "as in rayproject/ray-llm:2.60.0-py311-cu128. The same on all hosts."
        ),
    )
    ray_min_replicas: int | None = Field(
        None,
        ge=1,
        description=(
            "ray_mode serve only: replicas of each role that Ray keeps when there is little to do; "
            "it goes up to all planned instances by itself. Default: always all of them. The same "
            "on all hosts."
        ),
    )
    ray_object_store_gib: float = Field(
        1,
        ge=0.1,
        le=MOST_GIB,
        description=(
            "ray only: shared memory of the host's Ray node for Ray's own objects, GiB; requests "
            "and answers, not KV."
        ),
    )
    ray_dashboard_address: str = Field(
        "127.0.0.1",
        min_length=1,
        description=(
            "ray only: private address of the head on which Ray's dashboard listens. Whoever "
            "reaches it can run code on all hosts."
        ),
    )
    ray_ports: dict[RayPort, Port] = Field(
        default_factory=dict,
        description=(
            "ray only: ports of Ray's parts, by name, on every host; workers is the first of 64. "
            "Default: Ray's own 6379 (gcs), 10001 (client) and 8265 (dashboard), 6380 to 6385 for "
            "the others, 10100 for workers: all of them pinned. The same on all hosts."
        ),
    )

    prefill: InstanceSettings = Field(
        default_factory=lambda: InstanceSettings(),
        description="Settings for this host's prefill instances.",
    )
    decode: InstanceSettings = Field(
        default_factory=lambda: InstanceSettings(),
        description="Settings for this host's decode instances.",
    )
    mixed: InstanceSettings = Field(
        default_factory=lambda: InstanceSettings(),
        description="Settings for this host's mixed instances.",
    )
    instances: list[InstanceEntry] | None = Field(
        None,
        min_length=1,
        description=(
            "This host's instances. Default: one for each of the groups prefill, decode, mixed "
            "that the host is in."
        ),
    )


SERVICE_WIDE: tuple[str, ...] = (
    "service",
    "stack",
    "accelerator",
    "connector",
    "multi_connectors",
    "vllm_version",
    "model_name",
    "etcd_port",
    "etcd_peer_port",
    "datasystem_timeout_seconds",
    "yuanrong_wheels_dir",
    "yuanrong_wheels",
    "yuanrong_machine",
    "yuanrong_patches",
    "yuanrong_scripts_dir",
    "yuanrong_ports",
    "ray_mode",
    "ray_version",
    "ray_min_replicas",
    "ray_ports",
)
"""Settings that must be the same on every host of the service."""


def further_hosts(settings: HostSettings) -> tuple[str, ...]:
    """Return the names of the hosts that the entries of pd_instances go over besides, each once."""
    entries = settings.instances or []
    return tuple(dict.fromkeys(name for entry in entries for name in entry.hosts or []))


class Host(BaseModel):
    """One host of the inventory."""

    model_config = ConfigDict(frozen=True)

    name: str
    address: str
    groups: tuple[str, ...]
    settings: HostSettings

    @property
    def roles(self) -> tuple[Role, ...]:
        """Instance roles of this host, in the order prefill, decode, mixed."""
        return tuple(role for role in ROLES if role in self.groups)

    @property
    def further(self) -> tuple[str, ...]:
        """The names of the hosts over which instances of this one go as well."""
        return further_hosts(self.settings)


class Inventory(BaseModel):
    """A validated inventory: hosts in the inventory's order, and what all of them share.

    ``spare`` hosts are in none of pdinfra's groups, and no instance goes over them: what they still
    run of the service is removed.
    """

    model_config = ConfigDict(frozen=True)

    hosts: tuple[Host, ...]
    spare: tuple[Host, ...] = ()

    @property
    def service(self) -> HostSettings:
        """The service-wide settings (equal on all hosts, so the first host's)."""
        return self.hosts[0].settings

    @property
    def router(self) -> Host:
        """The host of the router."""
        return next(host for host in self.hosts if "router" in host.groups)

    @cached_property
    def computing(self) -> tuple[Host, ...]:
        """The hosts with engines: by a role of their own, or because an instance goes over them."""
        lent = {name for host in self.hosts for name in host.further}
        return tuple(host for host in self.hosts if host.roles or host.name in lent)

    @cached_property
    def receivers(self) -> dict[str, tuple[Host, ...]]:
        """By a host's name, the other hosts with engines that copy the model from it."""
        found: dict[str, tuple[Host, ...]] = {}
        for host in self.computing:
            origin = host.settings.model_from
            if origin is not None and origin != host.name:
                found[origin] = (*found.get(origin, ()), host)
        return found

    @property
    def etcd(self) -> tuple[Host, ...]:
        """The hosts of etcd, for a stack that needs one: the group's, else the router's."""
        return tuple(host for host in self.hosts if "etcd" in host.groups) or (self.router,)
