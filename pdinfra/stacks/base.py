"""The interface of a stack, and what the stacks share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from pdinfra.model.addresses import is_loopback
from pdinfra.model.inventory import Accelerator, Host, HostSettings, Inventory, Role
from pdinfra.model.plan import MEMBERS_FILE, Instance, Mount, Router
from pdinfra.model.problems import Problem
from pdinfra.versions.connectors import Connector, connectors, of_family, usable

OFFLINE = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""An engine reads its model from the host and tells nobody about it."""

BIND, UNBOUND = "VLLM_CPU_OMP_THREADS_BIND", "nobind"


@dataclass(frozen=True)
class EngineSettings:
    """InstanceSettings with every default filled in; None means vLLM's own default."""

    dtype: str
    max_model_len: int | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    quantization: str | None
    block_size: int | None
    gpu_memory_utilization: float | None
    kv_cache_gib: int
    threads: int
    memory_gib: float
    shm_gib: float
    load_format: str
    enforce_eager: bool
    privileged: bool
    env: dict[str, str]
    engine_args: tuple[str, ...]


@dataclass(frozen=True)
class Engine:
    """An instance with what it takes to start it.

    One over several hosts has an engine for each: ``node`` counts them, ``address`` and the
    instance's devices are those of the host, ``master`` is the first one's address.
    """

    instance: Instance
    address: str
    settings: EngineSettings
    accelerator: Accelerator
    model_path: str
    model_name: str
    node: int = 0
    master: str = ""


ASCEND_CONTROL = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
VLLM_ASCEND_MOUNTS = tuple(
    Mount(source=path, target=path)
    for path in (
        "/usr/local/dcmi",
        "/usr/local/bin/npu-smi",
        "/usr/local/Ascend/driver/lib64",
        "/usr/local/Ascend/driver/version.info",
        "/usr/local/Ascend/driver/tools/hccn_tool",
        "/etc/ascend_install.info",
        "/etc/hccn.conf",
    )
)
"""vllm-ascend's documented mounts; without the last one KV transfer gives garbage (#7711).

npu-smi is mounted from where the host has it.
"""


@dataclass(frozen=True)
class Launch:
    """A container's command line, environment, and what it needs of the host besides the model.

    ``driver`` is what engines on Ascend mount of the host's driver. ``health``: whether /health
    must say 200, or any answer that is no server's fault is good (its path is not known).
    """

    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    driver: tuple[Mount, ...] = VLLM_ASCEND_MOUNTS
    devices: tuple[str, ...] = ()
    user: str | None = None
    health: Literal["ok", "answers"] = "ok"


@dataclass(frozen=True)
class Peers:
    """What an engine may be told of all engines of its service.

    ``sizes``: tensor-parallel size of each role's first instance; ``numbers``: by instance id, how
    many instances come before it on its machine; ``ranks``: places of those that hand KV over,
    prefill first, of which ``first`` and ``last`` are the outermost.
    """

    sizes: Mapping[Role, int]
    numbers: Mapping[str, int]
    ranks: Mapping[str, int]
    first: Engine | None
    last: Engine | None


def peers_of(engines: Sequence[Engine]) -> Peers:
    """Return what engines may know of each other; engines: all, in the plan's order."""
    sizes: dict[Role, int] = {}
    numbers: dict[str, int] = {}
    machines: Counter[str] = Counter()
    for engine in engines:
        sizes.setdefault(engine.instance.role, engine.instance.tensor_parallel_size)
        numbers[engine.instance.id] = machines[engine.address]
        machines[engine.address] += 1
    order = [e for role in ("prefill", "decode") for e in engines if e.instance.role == role]
    ranks = {engine.instance.id: rank for rank, engine in enumerate(order)}
    first, last = (order[0], order[-1]) if order else (None, None)
    return Peers(sizes, numbers, ranks, first, last)


class StackModule(Protocol):
    """What planning asks of a stack. All methods are pure."""

    stores: bool
    """Whether openYuanrong's data system belongs to it."""
    bundled: bool
    """Whether the router comes with the engines' image."""
    internal_ports: bool
    """Whether engines are told the ports of their own processes."""
    everywhere: str | None
    """The address that engines and router bind whatever their host's is; None: their host's."""

    def static(self, service: HostSettings) -> bool:
        """Tell whether the router is told its members when it starts: then it starts after them."""
        ...

    def convergeable(self, service: HostSettings) -> bool:
        """Return False while roles for it do not exist: it validates and plans, `up` says so."""
        ...

    def clustered(self, service: HostSettings) -> bool:
        """Tell whether the engines are openYuanrong's actors on nodes, not containers of ours."""
        ...

    def problems(self, inventory: Inventory, engines: Sequence[Engine]) -> list[Problem]:
        """Return what this stack cannot do of the inventory. engines: as they are placed."""
        ...

    def protocol(self, service: HostSettings) -> str:
        """Return how a request is handed from prefill to decode (see verify)."""
        ...

    def together(self, service: HostSettings) -> bool:
        """Tell whether engines find each other only when they start."""
        ...

    def vllm_router(self, service: HostSettings, roles: Collection[Role]) -> bool:
        """Tell whether vllm-router answers behind the entry. roles: of the engines."""
        ...

    def kv_ports(self, service: HostSettings, role: Role) -> int:
        """Return how many ports each rank opens for its connector. service: of its host."""
        ...

    def kv_address(self, engine: Engine, service: HostSettings) -> str:
        """Return where requests say that an engine's KV is; empty if they need not."""
        ...

    def engine(self, engine: Engine, service: HostSettings, peers: Peers) -> Launch:
        """Return how to start one engine. service: of its host; peers: of the whole service."""
        ...

    def router(self, router: Router, host: Host, bind: str, engines: Sequence[Engine]) -> Launch:
        """Return how to start the router; engines: all of the service's, in the plan's order."""
        ...


def serve(engine: Engine) -> Launch:
    """Return `vllm serve` without anything of a stack: model, ports, devices, sizes."""
    settings, instance = engine.settings, engine.instance
    command = [
        "vllm", "serve", engine.model_path,
        "--served-model-name", engine.model_name,
        "--host", engine.address,
        "--port", str(instance.port),
        "--tensor-parallel-size", str(instance.tensor_parallel_size),
        "--dtype", settings.dtype,
    ]  # fmt: skip
    if settings.max_model_len is not None:
        command += ["--max-model-len", str(settings.max_model_len)]
    if settings.max_num_seqs is not None:
        command += ["--max-num-seqs", str(settings.max_num_seqs)]
    if settings.max_num_batched_tokens is not None:
        command += ["--max-num-batched-tokens", str(settings.max_num_batched_tokens)]
    if settings.quantization is not None:
        command += ["--quantization", settings.quantization]
    if settings.block_size is not None:
        command += ["--block-size", str(settings.block_size)]
    if settings.gpu_memory_utilization is not None:
        command += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    if settings.enforce_eager:
        command += ["--enforce-eager"]
    if instance.pipeline_parallel_size > 1:
        command += ["--pipeline-parallel-size", str(instance.pipeline_parallel_size)]
    command += _node(engine)
    env = {
        **OFFLINE,
        "VLLM_HOST_IP": engine.address,
        # Workers on further hosts are given ports by the kernel, whatever this says (measured).
        **({} if engine.node else {"VLLM_PORT": str(instance.internal_port)}),
        **_accelerator_env(engine),
    }
    return Launch(tuple(command), env)


def _node(engine: Engine) -> list[str]:
    """Return how one of several hosts finds the others, by vLLM's own executor for that."""
    instance = engine.instance
    if not instance.parts:
        return []
    words = [
        "--distributed-executor-backend", "mp",
        "--nnodes", str(1 + len(instance.parts)),
        "--node-rank", str(engine.node),
        "--master-addr", engine.master,
        "--master-port", str(instance.master_port),
    ]  # fmt: skip
    return [*words, "--headless"] if engine.node else words


def finish(launch: Launch, engine: Engine) -> Launch:
    """Add the user's own arguments and environment, which win."""
    return replace(
        launch,
        command=(*launch.command, *engine.settings.engine_args),
        env={**launch.env, **engine.settings.env},
    )


@dataclass(frozen=True)
class Entry:
    """What the router must know of the connector.

    ``shortest``: prompts of fewer tokens are refused, as they would kill an engine; 0: none is.
    """

    protocol: str = "nixl"
    by_vllm_router: bool = True
    shortest: int = 0


def front(router: Router, host: Host, bind: str, entry: Entry) -> Launch:
    """Return pdinfra's entry, and behind it `vllm-router` where that speaks the protocol."""
    own = [
        "python", "-m", "pdinfra_router",
        "--host", bind,
        "--port", str(router.port),
        "--metrics-port", str(router.metrics_port),
        "--members", f"{router.members_dir}/{MEMBERS_FILE}",
        "--drain-seconds", str(router.drain_seconds),
        "--protocol", entry.protocol,
    ]  # fmt: skip
    if entry.shortest:
        own += ["--min-prompt-tokens", str(entry.shortest)]
    if not entry.by_vllm_router:
        return Launch((*own, "--policy", host.settings.router_policy))
    command = [
        "--internal-port", str(router.internal_port),
        "--",
        "vllm-router",
        "--policy", host.settings.router_policy,
        "--intra-node-data-parallel-size", "1",
        # The defaults (30 s and 60 s) leave a member that came back unused for minutes.
        "--worker-startup-check-interval", "1",
        "--health-check-interval-secs", "5",
    ]  # fmt: skip
    return Launch((*own, *command))


def connector_problems(inventory: Inventory) -> list[Problem]:
    """Refuse connectors that do not exist, or not on this stack or accelerator."""
    service = inventory.service
    known = connectors()
    fit = usable(service.stack, service.accelerator)
    word = service.connector
    row = known.get(word)
    if row is not None and row in fit:
        return []
    cause = "vLLM has no connector of this name"
    family = [each.name for each in of_family(word, service.accelerator)]
    fix = f"use one of: {_words(fit)}"
    if family:
        cause = f"none of {', '.join(family)} is in the image's version"
    if row is not None:
        where = f"{service.accelerator} with stack {service.stack}"
        cause = f"pdinfra cannot use it on {where} ({row.source})"
        fix = f"use {row.use}, or one of: {_words(fit)}" if row.use else fix
    host = inventory.hosts[0].name
    return [Problem(host=host, thing=f"pd_connector {word}", cause=cause, fix=fix)]


def _words(rows: Sequence[Connector]) -> str:
    """Return what to ask for: families with their classes, and classes without a family."""
    classes: dict[str, list[str]] = {}
    for row in rows:
        classes.setdefault(row.family or row.name, []).append(row.name)
    return ", ".join(
        word if names == [word] else f"{word} ({', '.join(names)})"
        for word, names in classes.items()
    )


def _accelerator_env(engine: Engine) -> dict[str, str]:
    """Return the environment that the accelerator needs."""
    settings = engine.settings
    devices = ",".join(str(device) for device in engine.instance.devices)
    if engine.accelerator == "ascend":
        return {"ASCEND_RT_VISIBLE_DEVICES": devices}
    if engine.accelerator == "nvidia":
        # A container that sees its own cards alone counts them from 0; a privileged one sees all.
        own = range(len(engine.instance.devices))
        seen = engine.instance.devices if settings.privileged else own
        return {"CUDA_VISIBLE_DEVICES": ",".join(str(device) for device in seen)}
    env = cpu_env(engine)
    if engine.instance.ranks == 1 and _unbound(settings):
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return env


def cpu_env(engine: Engine) -> dict[str, str]:
    """Return the environment of every process of a CPU engine."""
    env = {
        "OMP_NUM_THREADS": str(engine.settings.threads),
        "VLLM_CPU_KVCACHE_SPACE": str(engine.settings.kv_cache_gib),
        BIND: UNBOUND,
    }
    return env | ({"GLOO_SOCKET_IFNAME": "lo"} if is_loopback(engine.address) else {})


def _unbound(settings: EngineSettings) -> bool:
    """Tell whether the threads of a CPU engine stay where the kernel puts them.

    Then its only worker needs no process of its own: vLLM gives it one on CPU for the sake of the
    binding alone (0.32, vllm/platforms/cpu.py), unless VLLM_ENABLE_V1_MULTIPROCESSING is 0. In the
    engine core it saves 0.4 GiB and the shared memory between the two (measured).
    """
    return settings.env.get(BIND, UNBOUND) == UNBOUND
