"""What the Ascend checks see of one host: its plan, its facts, and what follows from both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pdinfra.doctor.rules import Rule
from pdinfra.model.ascend import AscendFacts, NpuProcess
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import COMPUTES, Container, HostPlan, Plan

RUNNING = ("running", "restarting", "paused")


@dataclass(frozen=True)
class AscendHost:
    """One observed host that runs instances on Ascend devices."""

    service: str
    connector: str
    plan: HostPlan
    facts: HostFacts
    ascend: AscendFacts

    @property
    def name(self) -> str:
        """The host's name in the inventory."""
        return self.plan.name

    @property
    def devices(self) -> tuple[int, ...]:
        """Physical ids of the planned devices: only these matter."""
        return self.plan.observe.devices

    @property
    def engines(self) -> tuple[Container, ...]:
        """The containers that get devices."""
        return tuple(c for c in self.plan.containers if c.kind in COMPUTES)

    @property
    def a3(self) -> bool:
        """Tell whether the devices talk over HCCS, so that RoCE links may be down."""
        return self.ascend.generation == "a3" and not self.uses_roce

    @property
    def uses_roce(self) -> bool:
        """Tell whether an engine is told to use RoCE between all devices."""
        return any(c.spec.env.get("HCCL_INTRA_ROCE_ENABLE") == "1" for c in self.engines)

    def nodes(self) -> tuple[str, ...]:
        """Return the device nodes that the containers are given."""
        return tuple(dict.fromkeys(node for c in self.engines for node in c.spec.devices))

    def holds(self, device: int) -> bool:
        """Tell whether one of the service's running containers has the device."""
        return any(
            f"/dev/davinci{device}" in c.spec.devices or c.spec.privileged
            for c in self.facts.containers
            if c.state in RUNNING
        )

    def is_ours(self, process: NpuProcess, device: int) -> bool:
        """Tell whether a process is of this service: those make room by themselves."""
        if process.container is not None:
            return any(c.container_id == process.container for c in self.facts.containers)
        # Listed by npu-smi, but not in this /proc: then whoever holds the device has started it.
        return not process.seen and self.holds(device)


def ascend_hosts(plan: Plan, facts: Mapping[str, HostFacts]) -> tuple[AscendHost, ...]:
    """Return the observed hosts with planned Ascend devices, in the plan's order."""
    return tuple(
        AscendHost(plan.service, plan.connector, host, facts[host.name], seen)
        for host in plan.hosts
        if host.name in facts and (seen := facts[host.name].ascend) is not None
    )


def all_or(rule: Rule, host: str, bad: Iterable[Check], found: str) -> Iterator[Check]:
    """Yield the findings of one rule, or the one check that says all is well."""
    findings = list(bad)
    yield from findings or [rule.ok(host, found)]


def listing(devices: Sequence[int]) -> str:
    """Return device ids as a person reads them: ``device 3``, ``devices 0, 1, 5``."""
    numbers = ", ".join(str(device) for device in sorted(devices))
    return f"device {numbers}" if len(devices) == 1 else f"devices {numbers}"
