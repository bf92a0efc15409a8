"""Stack `native`: vLLM's own KV connectors, `vllm-router` in front."""

from __future__ import annotations

import json

from pdinfra.model.inventory import HostSettings, Inventory
from pdinfra.model.plan import MEMBERS_FILE, Router
from pdinfra.model.problems import Problem
from pdinfra.stacks.base import Engine, Launch, finish, serve
from pdinfra.versions.connectors import connectors

KV_ROLE = {"prefill": "kv_producer", "decode": "kv_consumer"}


class NativeStack:
    """vLLM engines that hand KV over by a connector; the router starts each request on prefill."""

    convergeable = True

    def problems(self, inventory: Inventory) -> list[Problem]:
        """Refuse connectors that do not exist, or not on this accelerator."""
        service = inventory.service
        known = connectors()
        usable = [
            row.name
            for row in known.values()
            if row.protocol and service.accelerator in row.accelerators
        ]
        row = known.get(service.connector)
        if row is not None and row.name in usable:
            return []
        cause = "vLLM has no connector of this name"
        if row is not None:
            cause = f"pdinfra cannot use it on {service.accelerator} ({row.source})"
        host = inventory.hosts[0].name
        fix = f"use one of: {', '.join(usable)}"
        return [Problem(host=host, thing=f"pd_connector {service.connector}", cause=cause, fix=fix)]

    def protocol(self, service: HostSettings) -> str:
        """Return the connector's protocol from the version table."""
        return connectors()[service.connector].protocol or "none"

    def engine(self, engine: Engine, service: HostSettings) -> Launch:
        """Return `vllm serve` with the connector's role and side channel."""
        base = serve(engine)
        role = KV_ROLE.get(engine.instance.role)
        if role is None:
            return finish(base, engine)
        config = {"kv_connector": service.connector, "kv_role": role}
        env = dict(base.env)
        if service.connector == "NixlConnector":
            config |= _nixl_config(engine)
            env |= {
                "VLLM_NIXL_SIDE_CHANNEL_HOST": engine.address,
                "VLLM_NIXL_SIDE_CHANNEL_PORT": str(engine.instance.kv_port),
            }
        if engine.accelerator == "cpu":
            # UCX's own choice of transport takes 30 s for the first transfer between containers.
            env["UCX_TLS"] = "tcp"
        command = (*base.command, "--kv-transfer-config", json.dumps(config))
        return finish(Launch(command, env), engine)

    def router(self, router: Router, host: HostSettings, bind: str) -> Launch:
        """Return `vllm-router` behind the front that changes its members without a restart."""
        front = [
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
        return Launch((*front, *command))


def _nixl_config(engine: Engine) -> dict[str, str]:
    """Return NIXL's own fields; the KV buffer of a CPU engine is host memory."""
    config = {}
    if engine.accelerator == "cpu":
        config["kv_buffer_device"] = "cpu"
    if engine.instance.role == "decode":
        config["kv_load_failure_policy"] = "recompute"
    return config
