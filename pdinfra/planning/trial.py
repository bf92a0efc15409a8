"""What has to be tried out because one look at each host cannot tell it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from pdinfra.doctor import npu_ping
from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from pdinfra.model.reach import Link, Probe
from pdinfra.model.shared_path import SharedProbe
from pdinfra.planning.compare import Mode
from pdinfra.planning.reach import links, links_of, probes
from pdinfra.planning.shared_path import shared_probes


class Trial(BaseModel):
    """What to try, by host.

    ``checksums`` are files to hash, ``pings`` go between NPUs, ``shared`` prove a folder.
    """

    model_config = ConfigDict(frozen=True)

    links: tuple[Link, ...] = ()
    probes: dict[str, Probe] = {}
    checksums: dict[str, tuple[str, ...]] = {}
    pings: dict[str, list[dict[str, Any]]] = {}
    shared: dict[str, SharedProbe] = {}

    def stages(self, host: str) -> list[str]:
        """Return the names of what one host takes part in."""
        parts: dict[str, Container[str]] = {
            "probe": self.probes,
            "checksums": self.checksums,
            "npu_ping": self.pings,
            "shared_path": self.shared,
        }
        return [name for name, hosts in parts.items() if host in hosts]


def trial(
    plan: Plan, facts: Mapping[str, HostFacts], changes: Sequence[Change], mode: Mode
) -> Trial:
    """Return everything for the doctor; before a change, what the new containers need."""
    if mode == "doctor":
        every = links(plan)
        return Trial(
            links=every,
            probes=probes(every, facts),
            checksums=_files(plan, facts),
            pings=npu_ping.targets(plan, facts),
            shared=shared_probes(plan, facts),
        )
    if mode != "converge":
        return Trial()
    needed = links_of(links(plan), changes)
    starts = any(c.kind == "instance" and c.action in ("create", "replace") for c in changes)
    return Trial(
        links=needed,
        probes=probes(needed, facts),
        shared=shared_probes(plan, facts) if starts else {},
    )


def _files(plan: Plan, facts: Mapping[str, HostFacts]) -> dict[str, tuple[str, ...]]:
    """Return the model's files, where several machines have it."""
    having = {
        host.name: tuple(f"{model.path}/{name}" for name in model.files)
        for host in plan.active
        if host.name in facts
        for model in facts[host.name].models[:1]
        if model.files
    }
    return having if plan.spans_machines and len(having) > 1 else {}
