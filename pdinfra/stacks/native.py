"""Stack `native`: vLLM's own KV connectors, a router in front that speaks their protocol."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pdinfra.model.inventory import Host, HostSettings, Inventory, Role
from pdinfra.model.plan import Router
from pdinfra.model.problems import Problem
from pdinfra.stacks import kv_transfer, vllm_ascend
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
from pdinfra.stacks.native_problems import problems
from pdinfra.versions.table import VersionError


class NativeStack:
    """vLLM engines that hand KV over by a connector; the router starts each request on prefill."""

    stores = False
    bundled = False
    internal_ports = True
    everywhere: str | None = None

    def static(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def convergeable(self, service: HostSettings) -> bool:
        """Return True."""
        return True

    def clustered(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def problems(self, inventory: Inventory, engines: Sequence[Engine]) -> list[Problem]:
        """Refuse connectors that do not exist, or not on this accelerator or image."""
        found = connector_problems(inventory)
        if found:
            return found
        if inventory.service.accelerator == "ascend":
            return vllm_ascend.problems(inventory, [engine.instance for engine in engines])
        return problems(inventory, engines)

    def protocol(self, service: HostSettings) -> str:
        """Return the protocol of the connector, or of what is inside MultiConnector."""
        return kv_transfer.protocol_of(service)

    def together(self, service: HostSettings) -> bool:
        """Tell it by the version table."""
        return kv_transfer.waits(service)

    def vllm_router(self, service: HostSettings, roles: Collection[Role]) -> bool:
        """Return True where it speaks the connector's protocol, and for mixed engines."""
        return set(roles) == {"mixed"} or kv_transfer.by_vllm_router(service)

    def kv_ports(self, service: HostSettings, role: Role) -> int:
        """Return the ports of the connectors, by the version table."""
        if role == "mixed":
            return 0
        if service.accelerator == "ascend":
            return 1
        try:
            return sum(row.ports.get(role, 0) for row in kv_transfer.rows_of(service))
        except VersionError:
            return 0

    def kv_address(self, engine: Engine, service: HostSettings) -> str:
        """Return where requests say that an engine's KV is, by the version table."""
        if service.accelerator == "ascend" or engine.instance.role == "mixed":
            return ""
        return kv_transfer.address_of(engine, service)

    def engine(self, engine: Engine, service: HostSettings, peers: Peers) -> Launch:
        """Return `vllm serve` with the connector's role, fields and ports."""
        if engine.instance.role == "mixed":
            return finish(serve(engine), engine)
        if engine.accelerator == "ascend":
            role = kv_transfer.KV_ROLE[engine.instance.role]
            return finish(vllm_ascend.launch(serve(engine), engine, role, service, peers), engine)
        engine = kv_transfer.with_sizes(engine, service)
        return finish(kv_transfer.launch(serve(engine), engine, service, peers), engine)

    def router(self, router: Router, host: Host, bind: str, engines: Sequence[Engine]) -> Launch:
        """Return the entry, with `vllm-router` behind it where that speaks the protocol."""
        service = host.settings
        roles = {engine.instance.role for engine in engines}
        if roles == {"mixed"}:
            return front(router, host, bind, Entry())
        entry = Entry(
            protocol=kv_transfer.protocol_of(service),
            by_vllm_router=self.vllm_router(service, roles),
            shortest=kv_transfer.shortest(service),
        )
        return front(router, host, bind, entry)
