"""The interface of a stack, and what the stacks share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pdinfra.model.addresses import is_loopback
from pdinfra.model.inventory import Accelerator, HostSettings, Inventory
from pdinfra.model.plan import MEMBERS_FILE, Instance, Mount, Router
from pdinfra.model.problems import Problem
from pdinfra.versions.connectors import connectors

OFFLINE = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""An engine reads its model from the host and tells nobody about it."""


@dataclass(frozen=True)
class EngineSettings:
    """InstanceSettings with every default filled in; None means vLLM's own default."""

    dtype: str
    max_model_len: int | None
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
    """An instance with what it takes to start it."""

    instance: Instance
    address: str
    settings: EngineSettings
    accelerator: Accelerator
    model_path: str
    model_name: str


@dataclass(frozen=True)
class Launch:
    """A container's command line, environment, and what it needs of the host besides the model."""

    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()


class StackModule(Protocol):
    """What planning asks of a stack. All methods are pure."""

    stores: bool
    """Whether openYuanrong's data system belongs to it."""

    def convergeable(self, service: HostSettings) -> bool:
        """Return False while roles for it do not exist: it validates and plans, `up` says so."""
        ...

    def clustered(self, service: HostSettings) -> bool:
        """Tell whether the engines are openYuanrong's actors on nodes, not containers of ours."""
        ...

    def problems(self, inventory: Inventory) -> list[Problem]:
        """Return what this stack cannot do of the inventory."""
        ...

    def protocol(self, service: HostSettings) -> str:
        """Return how a request is handed from prefill to decode (see verify)."""
        ...

    def engine(self, engine: Engine, service: HostSettings) -> Launch:
        """Return how to start one engine."""
        ...

    def router(self, router: Router, host: HostSettings, bind: str) -> Launch:
        """Return how to start the router, whose members it reads from a file."""
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
    if settings.block_size is not None:
        command += ["--block-size", str(settings.block_size)]
    if settings.gpu_memory_utilization is not None:
        command += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    if settings.enforce_eager:
        command += ["--enforce-eager"]
    env = {
        **OFFLINE,
        "VLLM_HOST_IP": engine.address,
        "VLLM_PORT": str(instance.internal_port),
        **_accelerator_env(engine),
    }
    return Launch(tuple(command), env)


def finish(launch: Launch, engine: Engine) -> Launch:
    """Add the user's own arguments and environment, which win."""
    return Launch(
        (*launch.command, *engine.settings.engine_args),
        {**launch.env, **engine.settings.env},
        launch.mounts,
    )


def front(router: Router, host: HostSettings, bind: str) -> Launch:
    """Return `vllm-router` behind the front that changes its members without a restart."""
    own = [
        "python", "-m", "pdinfra_router",
        "--host", bind,
        "--port", str(router.port),
        "--metrics-port", str(router.metrics_port),
        "--internal-port", str(router.internal_port),
        "--members", f"{router.members_dir}/{MEMBERS_FILE}",
        "--drain-seconds", str(router.drain_seconds),
        "--",
    ]  # fmt: skip
    command = [
        "vllm-router",
        "--policy", host.router_policy,
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
    usable = [
        row.name
        for row in known.values()
        if row.protocol and row.stack == service.stack and service.accelerator in row.accelerators
    ]
    row = known.get(service.connector)
    if row is not None and row.name in usable:
        return []
    cause = "vLLM has no connector of this name"
    if row is not None:
        where = f"{service.accelerator} with stack {service.stack}"
        cause = f"pdinfra cannot use it on {where} ({row.source})"
    host = inventory.hosts[0].name
    fix = f"use one of: {', '.join(usable)}"
    return [Problem(host=host, thing=f"pd_connector {service.connector}", cause=cause, fix=fix)]


def _accelerator_env(engine: Engine) -> dict[str, str]:
    """Return the environment that the accelerator needs."""
    settings = engine.settings
    devices = ",".join(str(device) for device in engine.instance.devices)
    if engine.accelerator == "ascend":
        return {"ASCEND_RT_VISIBLE_DEVICES": devices}
    if engine.accelerator == "nvidia":
        return {}
    env = {
        "OMP_NUM_THREADS": str(settings.threads),
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    if is_loopback(engine.address):
        env["GLOO_SOCKET_IFNAME"] = "lo"
    return env
