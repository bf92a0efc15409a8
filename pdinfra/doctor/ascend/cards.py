"""The planned cards: there, healthy, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

from pdinfra.doctor.ascend.host import AscendHost, all_or, listing
from pdinfra.doctor.rules import Rule
from pdinfra.model.ascend import NpuProcess
from pdinfra.model.checks import Check

IDLE_SHARE = 0.10
"""Share of HBM that an idle device may hold. Idle ones hold 5.1 to 5.3 % of 64 GiB and up to 8.8 %
of 32 GiB (captured outputs, reference tables of 23.0 to 25.5); an engine holds far more."""

DEVICE = Rule(
    id="npu-device",
    what="Every device of the plan exists on its host.",
    expected="the devices of the plan",
    fix="correct pd_devices (or an instance's devices)",
    source="vllm-ascend issue 2399 (visible devices that are not there)",
)
HEALTH = Rule(
    id="npu-health",
    what="Every planned device's health is OK.",
    expected="OK",
    fix="see `npu-smi info -t health`; take the device out of pd_devices until it is well",
    source="npu-smi source, health column; vllm-ascend deployment checks",
)
BUSY = Rule(
    id="npu-busy",
    what="No process of others is on a planned device.",
    expected="no process but the service's own",
    fix="stop the process, or plan other devices",
    source="vllm-ascend issues 1670, 9888",
)
MEMORY = Rule(
    id="npu-memory",
    what="A planned device that nobody uses holds no HBM (a zombie of a stopped engine does).",
    expected=f"less than {IDLE_SHARE:.0%} of HBM used while no process is on it",
    fix="end what `fuser -v` shows, else reset the device",
    source="vllm-ascend issue 9888; idle values from captured npu-smi outputs",
)
CLAIMED = Rule(
    id="npu-claimed",
    what="No container of others was given a planned device (warn: a privileged one sees all).",
    expected="the service's containers alone have the planned devices",
    fix="stop that container, or plan other devices",
    source="cann-container-image issue 46; ascend-gha-runners docs; vllm-ascend issue 1670",
)

RULES = (DEVICE, HEALTH, BUSY, MEMORY, CLAIMED)


def checks(host: AscendHost) -> Iterator[Check]:
    """Yield the cards' checks; with a card that is held, only who may hold it."""
    if host.ascend.state == "ready":
        well = f"{listing(host.devices)} of {len(host.ascend.npus)}"
        yield from all_or(DEVICE, host.name, _missing(host), well)
        yield from all_or(HEALTH, host.name, _health(host), f"{listing(host.devices)} OK")
        yield from all_or(BUSY, host.name, _busy(host), "none")
        yield from all_or(MEMORY, host.name, _memory(host), _used(host))
    if host.ascend.state in ("ready", "held"):
        yield from all_or(CLAIMED, host.name, _claimed(host), "no container of others has one")


def _missing(host: AscendHost) -> Iterator[Check]:
    """Yield planned devices that the host does not have."""
    there = [npu.device for npu in host.ascend.npus]
    for device in host.devices:
        if device not in there:
            yield DEVICE.bad(host.name, f"no device {device}", expected=f"one of {listing(there)}")


def _health(host: AscendHost) -> Iterator[Check]:
    """Yield planned devices whose health is not OK, with npu-smi's error code."""
    for device in host.devices:
        npu = host.ascend.npu(device)
        if npu is None or npu.health == "OK":
            continue
        code = host.ascend.error_codes.get(npu.card)
        found = f"device {device}: {npu.health}" + (f" (error code {code})" if code else "")
        fix = (
            f"`npu-smi info -t health -i {npu.card} -c {npu.chip}` tells the fault; take device "
            f"{device} out of pd_devices until it is well"
        )
        yield HEALTH.bad(host.name, found, fix=fix)


def _busy(host: AscendHost) -> Iterator[Check]:
    """Yield processes of others: on npu-smi's list, or with the device's node open."""
    for device in host.devices:
        others = _others(host, device)
        if not others:
            continue
        found = f"device {device}: {', '.join(str(process) for process in others)}"
        pids = " ".join(str(process.pid) for process in others)
        fix = (
            f"`kill {pids}` on {host.name} if nobody needs it, or plan other devices than {device}"
        )
        yield BUSY.bad(host.name, found, fix=fix)


def _others(host: AscendHost, device: int) -> list[NpuProcess]:
    """Return a device's processes that are neither ours nor a container's that CLAIMED names."""
    npu = host.ascend.npu(device)
    listed = (*(npu.processes if npu else ()), *host.ascend.openers.get(device, ()))
    named = {claim.container_id for claim in host.ascend.claims if device in claim.devices}
    found = {
        process.pid: process
        for process in reversed(listed)
        if not host.is_ours(process, device) and process.container not in named
    }
    return [found[pid] for pid in sorted(found)]


def _memory(host: AscendHost) -> Iterator[Check]:
    """Yield devices with HBM in use that no process and no container of ours accounts for."""
    for device in host.devices:
        npu = host.ascend.npu(device)
        if npu is None or npu.hbm_used <= IDLE_SHARE * npu.hbm_total:
            continue
        # A process inside a container may be missing in npu-smi's list (vllm-ascend issue 5695).
        claimed = any(device in claim.devices for claim in host.ascend.claims)
        if npu.processes or host.ascend.openers.get(device) or claimed or host.holds(device):
            continue
        fix = (
            f"`fuser -v /dev/davinci{device}` shows who holds it: end that; if it shows nobody, "
            f"`npu-smi set -t reset -i {npu.card} -c {npu.chip}`"
        )
        found = f"device {device}: {npu.hbm_used} of {npu.hbm_total} MB used and no process on it"
        yield MEMORY.bad(host.name, found, fix=fix)


def _used(host: AscendHost) -> str:
    """Return the highest use of HBM in words."""
    npus = [npu for d in host.devices if (npu := host.ascend.npu(d)) is not None]
    if not npus:
        return "nothing to see"
    npu = max(npus, key=lambda npu: npu.hbm_used)
    return f"at most {npu.hbm_used} of {npu.hbm_total} MB"


def _claimed(host: AscendHost) -> Iterator[Check]:
    """Yield containers of others that have a planned device."""
    for claim in host.ascend.claims:
        if claim.service == host.service:
            continue
        shared = sorted(set(claim.devices) & set(host.devices))
        fix = f"`docker stop {claim.container}` on {host.name}, or plan other devices"
        if shared:
            yield CLAIMED.bad(
                host.name, f"container {claim.container} has {listing(shared)}", fix=fix
            )
        elif claim.privileged:
            found = f"container {claim.container} is privileged: it can use any device"
            yield CLAIMED.bad(host.name, found, fix=fix, severity="warn")
