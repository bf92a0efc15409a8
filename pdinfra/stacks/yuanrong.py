"""Stack `yuanrong`: engines share KV through openYuanrong's data system, `vllm-router` in front.

Every host with engines has a worker of the data system; an engine talks to the worker of its own
host. Prefill stores a prompt's KV blocks there, decode loads them, and so does any later prompt
that begins alike, on any host.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from pdinfra.model.inventory import Host, HostSettings, Inventory, Role
from pdinfra.model.paths import socket_dir
from pdinfra.model.plan import Mount, Router
from pdinfra.model.problems import Problem
from pdinfra.stacks import ascend_store
from pdinfra.stacks.base import (
    Engine,
    Entry,
    Launch,
    Peers,
    connector_problems,
    finish,
    front,
    serve,
)
from pdinfra.versions.connectors import connectors

KV_ROLE = {"prefill": "kv_producer", "decode": "kv_consumer", "mixed": "kv_both"}
BLOCK_SIZE = 32
"""Tokens. Only whole blocks are shared: the default on CPU, 128, would leave short prompts out."""
FULL = "YuanRongConnector"
"""The guide's own connector: it comes with `yr`, the function system, instead of workers alone."""


class YuanrongStack:
    """vLLM engines around a data system that all of them read."""

    stores = True
    bundled = False
    internal_ports = True
    everywhere: str | None = None

    def static(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def convergeable(self, service: HostSettings) -> bool:
        """Return False for vllm-ascend's pool: no proof of it is built yet."""
        return service.connector != ascend_store.NAME

    def clustered(self, service: HostSettings) -> bool:
        """Tell whether it is the guides' connector: its engines are placed by openYuanrong."""
        return service.connector == FULL

    def problems(self, inventory: Inventory, engines: Sequence[Engine]) -> list[Problem]:
        """Refuse connectors that cannot use the data system on this accelerator."""
        found = connector_problems(inventory)
        if inventory.service.connector == ascend_store.NAME and not found:
            return ascend_store.problems(inventory)
        return found

    def protocol(self, service: HostSettings) -> str:
        """Return the connector's protocol from the version table."""
        return connectors()[service.connector].protocol or "none"

    def together(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def vllm_router(self, service: HostSettings, roles: Collection[Role]) -> bool:
        """Return True."""
        return True

    def kv_ports(self, service: HostSettings, role: Role) -> int:
        """Return one, but for mixed engines."""
        return 0 if role == "mixed" else 1

    def kv_address(self, engine: Engine, service: HostSettings) -> str:
        """Return nothing."""
        return ""

    def engine(self, engine: Engine, service: HostSettings, peers: Peers) -> Launch:
        """Return `vllm serve` with a connector to the worker of its host."""
        settings = engine.settings
        if settings.block_size is None and engine.accelerator == "cpu":
            engine = replace(engine, settings=replace(settings, block_size=BLOCK_SIZE))
        base = serve(engine)
        worker = f"{engine.address}:{service.datasystem_port}"
        if service.connector == ascend_store.NAME:
            config, env = ascend_store.config(engine), base.env | ascend_store.environment(worker)
        else:
            config, env = _config(engine, service.connector, worker), base.env
        command = (*base.command, "--kv-transfer-config", json.dumps(config))
        if settings.load_format == "yuanrong":
            loader = json.dumps({"worker": worker})
            command += ("--load-format", "yuanrong", "--model-loader-extra-config", loader)
        sockets = socket_dir(service.service)
        mount = Mount(source=sockets, target=sockets, read_only=False)
        return finish(Launch(command, env, (mount,)), engine)

    def router(self, router: Router, host: Host, bind: str, engines: Sequence[Engine]) -> Launch:
        """Return `vllm-router` behind the front that changes its members without a restart."""
        return front(router, host, bind, Entry())


def _config(engine: Engine, connector: str, worker: str) -> dict[str, Any]:
    """Return --kv-transfer-config of a connector that reads the worker's address from there."""
    return {
        "kv_connector": connector,
        "kv_role": KV_ROLE[engine.instance.role],
        # A block that is gone is computed anew, never waited for.
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"worker": worker},
    }
