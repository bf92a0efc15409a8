"""Stack `native`: vLLM's own KV connectors, `vllm-router` in front."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pdinfra.model.inventory import Host, HostSettings, Inventory
from pdinfra.model.plan import Router
from pdinfra.model.problems import Problem
from pdinfra.stacks import vllm_ascend
from pdinfra.stacks.base import Engine, Launch, Peers, connector_problems, finish, front, serve
from pdinfra.versions.connectors import connectors

KV_ROLE = {"prefill": "kv_producer", "decode": "kv_consumer"}


class NativeStack:
    """vLLM engines that hand KV over by a connector; the router starts each request on prefill."""

    stores = False
    static = False
    side_channels = True

    def convergeable(self, service: HostSettings) -> bool:
        """Return True."""
        return True

    def clustered(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def problems(self, inventory: Inventory, engines: Sequence[Engine]) -> list[Problem]:
        """Refuse connectors that do not exist, or not on this accelerator or image."""
        found = connector_problems(inventory)
        if inventory.service.accelerator == "ascend" and not found:
            return vllm_ascend.problems(inventory, [engine.instance for engine in engines])
        return found

    def protocol(self, service: HostSettings) -> str:
        """Return the connector's protocol from the version table."""
        return connectors()[service.connector].protocol or "none"

    def engine(self, engine: Engine, service: HostSettings, peers: Peers) -> Launch:
        """Return `vllm serve` with the connector's role and side channel."""
        base = serve(engine)
        role = KV_ROLE.get(engine.instance.role)
        if role is None:
            return finish(base, engine)
        if engine.accelerator == "ascend":
            return finish(vllm_ascend.launch(base, engine, role, service, peers), engine)
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

    def router(self, router: Router, host: Host, bind: str, engines: Sequence[Engine]) -> Launch:
        """Return `vllm-router` behind the front that changes its members without a restart."""
        return front(router, host, bind)


def _nixl_config(engine: Engine) -> dict[str, str]:
    """Return NIXL's own fields; the KV buffer of a CPU engine is host memory."""
    config = {}
    if engine.accelerator == "cpu":
        config["kv_buffer_device"] = "cpu"
    if engine.instance.role == "decode":
        config["kv_load_failure_policy"] = "recompute"
    return config
