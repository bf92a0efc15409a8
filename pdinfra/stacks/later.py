"""Stacks whose roles are not built yet: they validate and plan, and refuse to converge."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pdinfra.model.inventory import Host, HostSettings, Inventory, Role, Stack
from pdinfra.model.plan import Router
from pdinfra.model.problems import Problem
from pdinfra.stacks.base import Engine, Launch, Peers, finish, serve


class LaterStack:
    """Placement, devices and ports of a stack whose own wiring comes later."""

    stores = False
    static = False
    internal_ports = True
    everywhere: str | None = None

    def __init__(self, name: Stack) -> None:
        """Remember which stack this stands for."""
        self.name = name

    def convergeable(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def clustered(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def problems(self, inventory: Inventory, engines: Sequence[Engine]) -> list[Problem]:
        """Return nothing: only what all stacks share is checked so far."""
        return []

    def protocol(self, service: HostSettings) -> str:
        """Return the stack's name: verify knows no protocol for it yet."""
        return self.name

    def together(self, service: HostSettings) -> bool:
        """Return False."""
        return False

    def vllm_router(self, service: HostSettings, roles: Collection[Role]) -> bool:
        """Return False."""
        return False

    def kv_ports(self, service: HostSettings, role: Role) -> int:
        """Return one, but for mixed engines."""
        return 0 if role == "mixed" else 1

    def kv_address(self, engine: Engine, service: HostSettings) -> str:
        """Return nothing."""
        return ""

    def engine(self, engine: Engine, service: HostSettings, peers: Peers) -> Launch:
        """Return the plain engine; the stack's wiring is not part of it yet."""
        return finish(serve(engine), engine)

    def router(self, router: Router, host: Host, bind: str, engines: Sequence[Engine]) -> Launch:
        """Return no command: the stack brings its own entry."""
        return Launch(())
