"""Stack `ray`: one model over several hosts, on one Ray cluster.

Two ways, from the same description of instances: Ray Serve LLM, which keeps replicas and spreads
requests over them, and one `vllm serve` whose workers Ray starts, as in guide
vllm-ray-tensor-parallel. Source of names and fields: Ray 2.60, ray.serve.llm and its REST API.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from pdinfra.model.inventory import Host, HostSettings, Inventory, Role
from pdinfra.model.plan import Mount, Router
from pdinfra.model.problems import Problem
from pdinfra.stacks.base import (
    OFFLINE,
    Engine,
    Entry,
    Launch,
    Peers,
    cpu_env,
    finish,
    front,
    serve,
)
from pdinfra.stacks.ray_problems import problems
from pdinfra.stacks.ray_words import arguments

ENTRY_WORD = "pd_entry"
"""Ray's resource that the head alone has: the application's entry goes there."""
KV_BASES: dict[Role, int] = {"prefill": 12000, "decode": 14000}
"""NIXL's side channel: Ray gives each replica its own from here on, by its rank."""
APPLICATION = "pd"
METRICS_SECONDS = 5
"""How often processes hand their counters to the node's metrics port; Ray's own: 10."""
RECONNECT_SECONDS = 600
"""How long nodes wait for a head that starts again; Ray's own 60 s are less than one may take."""
DEPLOYMENTS: dict[Role, str] = {
    "prefill": "Prefill:engine",
    "decode": "Decode:engine",
    "mixed": "LLMServer:engine",
}
"""Ray's prefixes (server/builder.py, prefill_decode/builder.py) before our name."""


class RayStack:
    """One Ray cluster with Ray Serve LLM, or with one `vllm serve` over several hosts."""

    stores = False
    internal_ports = True
    bundled = False
    everywhere: str | None = None

    def static(self, service: HostSettings) -> bool:
        """Return True where Ray Serve itself knows its replicas."""
        return service.ray_mode == "serve"

    def convergeable(self, service: HostSettings) -> bool:
        """Return True."""
        return True

    def clustered(self, service: HostSettings) -> bool:
        """Return False: that is openYuanrong's."""
        return False

    def problems(self, inventory: Inventory, engines: Sequence[Engine]) -> list[Problem]:
        """Refuse what Ray, its Serve LLM or the executor cannot do."""
        return problems(inventory, engines)

    def protocol(self, service: HostSettings) -> str:
        """Return that Ray alone hands requests over."""
        return "ray"

    def together(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def vllm_router(self, service: HostSettings, roles: Collection[Role]) -> bool:
        """Return True in front of engines that are containers."""
        return service.ray_mode == "executor"

    def kv_ports(self, service: HostSettings, role: Role) -> int:
        """Return 0: the nodes have them."""
        return 0

    def kv_address(self, engine: Engine, service: HostSettings) -> str:
        """Return nothing."""
        return ""

    def engine(self, engine: Engine, service: HostSettings, peers: Peers) -> Launch:
        """Return `vllm serve`; over several hosts with workers that Ray starts there."""
        instance = engine.instance
        if not instance.parts:
            return finish(serve(engine), engine)
        alone = replace(engine, instance=instance.model_copy(update={"parts": ()}))
        launch = serve(alone)
        words = ("--distributed-executor-backend", "ray")
        return finish(replace(launch, command=(*launch.command, *words)), engine)

    def router(self, router: Router, host: Host, bind: str, engines: Sequence[Engine]) -> Launch:
        """Return the entry; none for Ray Serve, which has its own (planning adds its keeper)."""
        settings = host.settings
        if settings.ray_mode == "executor":
            return front(router, host, bind, Entry())
        return Launch(())


def beside_node(launch: Launch, head: str, sockets: Mount) -> Launch:
    """Return an engine that finds the node on its host. head: ``address:port`` of the cluster."""
    return replace(
        launch,
        env={**launch.env, "RAY_ADDRESS": head},
        mounts=(*launch.mounts, sockets),
    )


def keeper(
    dashboard: str, bind: str, port: int, engines: Sequence[Engine], least: int | None
) -> Launch:
    """Return what keeps the application on Ray Serve. engines: all replicas, as they are placed.

    least: of each role, when there is little to do; None: always all.
    """
    document = application(bind, port, engines, least)
    return Launch(
        (
            "python", "-m", "pdinfra_ray",
            "--dashboard", dashboard,
            "--application", json.dumps(document, sort_keys=True, ensure_ascii=False),
        )
    )  # fmt: skip


def application(
    bind: str, port: int, engines: Sequence[Engine], least: int | None = None
) -> dict[str, Any]:
    """Return what Ray Serve is told (PUT /api/serve/applications/).

    How many replicas there are is said beside the builder's arguments: those are part of what each
    replica is, and other ones would restart them all (measured).
    """
    roles: dict[Role, list[Engine]] = {}
    for engine in engines:
        roles.setdefault(engine.instance.role, []).append(engine)
    configs = {role: _config(mine[0], paired="mixed" not in roles) for role, mine in roles.items()}
    entry = {
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": 0, "resources": {ENTRY_WORD: 0.001}},
    }
    if "mixed" in configs:
        builder = "ray.serve.llm:build_openai_app"
        args: dict[str, Any] = {"llm_configs": [configs["mixed"]]}
    else:
        builder = "ray.serve.llm:build_pd_openai_app"
        args = {f"{role}_config": configs[role] for role in ("prefill", "decode")}
    return {
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": builder,
                "args": args | {"ingress_deployment_config": entry},
                "deployments": [_count(role, len(mine), least) for role, mine in roles.items()],
            }
        ],
        "proxy_location": "HeadOnly",
        "http_options": {"host": bind, "port": port},
    }


def _config(engine: Engine, *, paired: bool) -> dict[str, Any]:
    """Return one role's LLMConfig."""
    instance, settings = engine.instance, engine.settings
    word = {"nvidia": "GPU"}.get(engine.accelerator)
    bundle: dict[str, float] = {"CPU": 1, role_word(instance.role): 1}
    bundle |= {word: 1} if word else {}
    kwargs = engine_arguments(engine)
    config: dict[str, Any] = {
        "model_loading_config": {
            "model_id": engine.model_name,
            "model_source": engine.model_path,
        },
        "accelerator_config": {"kind": "gpu" if word else "cpu"},
        "placement_group_config": {
            "bundles": [bundle] * instance.ranks,
            "strategy": "PACK" if instance.parts else "STRICT_PACK",
        },
        "deployment_config": {
            "name": "engine",
            "num_replicas": 1,
            "ray_actor_options": {"num_cpus": 0},
            "health_check_period_s": 5,
            "health_check_timeout_s": 30,
        },
        "engine_kwargs": kwargs,
    }
    if settings.env:
        config["runtime_env"] = {"env_vars": dict(sorted(settings.env.items()))}
    if paired:
        kwargs["kv_transfer_config"] = {
            "kv_connector": "NixlConnector",
            "kv_role": "kv_both",
            **({} if word else {"kv_buffer_device": "cpu"}),
        }
        base = KV_BASES[instance.role]
        config["experimental_configs"] = {"NIXL_SIDE_CHANNEL_PORT_BASE": base}
    return config


def engine_arguments(engine: Engine) -> dict[str, Any]:
    """Return what vLLM's engine is given, by the names of its own arguments.

    Ray names the model and the executor itself. The user's own words come last and win.
    """
    settings, instance = engine.settings, engine.instance
    known: dict[str, Any] = {
        "tensor_parallel_size": instance.tensor_parallel_size,
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "quantization": settings.quantization,
        "block_size": settings.block_size,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "enforce_eager": settings.enforce_eager or None,
    }
    if instance.pipeline_parallel_size > 1:
        known["pipeline_parallel_size"] = instance.pipeline_parallel_size
    given = {name: value for name, value in known.items() if value is not None}
    return given | arguments(settings.engine_args)


def _count(role: Role, planned: int, least: int | None) -> dict[str, Any]:
    """Return how many replicas a role has: all that are planned, or as few as there is work for."""
    if least is None:
        return {"name": deployment_name(role), "num_replicas": planned}
    bounds = {
        "min_replicas": min(least, planned),
        "initial_replicas": min(least, planned),
        "max_replicas": planned,
    }
    return {"name": deployment_name(role), "autoscaling_config": bounds}


def deployment_name(role: Role) -> str:
    """Return the name under which Ray Serve keeps a role's replicas."""
    return DEPLOYMENTS[role]


def role_word(role: str) -> str:
    """Return Ray's resource for a role: each node has as many as the plan puts ranks there."""
    return f"pd_{role}"


def host_word(host: str) -> str:
    """Return Ray's resource that one host alone has."""
    return f"pd_host_{host}"


def node_environment(address: str, engines: Sequence[Engine], kept: str) -> dict[str, str]:
    """Return a node's environment, which its engines have, too: Ray itself gives them their cards.

    engines: those on it, whose settings are one. kept: the head's folder for what it must know
    after a restart, if its Ray can keep it.
    """
    env = cpu_env(engines[0]) if engines and engines[0].accelerator == "cpu" else {}
    state = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": kept} if kept else {}
    return {
        **OFFLINE,
        "VLLM_HOST_IP": address,
        **env,
        # Else a container's log is empty, and what failed in an engine is in a file inside.
        "RAY_LOG_TO_STDERR": "1",
        "RAY_BACKEND_LOG_LEVEL": "warning",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(RECONNECT_SECONDS),
        "RAY_metrics_report_interval_ms": str(1000 * METRICS_SECONDS),
        **state,
    }
