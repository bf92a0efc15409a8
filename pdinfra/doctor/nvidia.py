"""Checks of NVIDIA hosts: driver, GPUs, their memory, Docker's runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pdinfra.doctor.rules import Rule
from pdinfra.doctor.told import memory_share
from pdinfra.model.checks import Check
from pdinfra.model.facts import GpuFact, HostFacts, NvidiaFact
from pdinfra.model.plan import Container, HostPlan, Plan

GIB = 1024**3
IDLE_BYTES = GIB
"""What an idle GPU shows as used: the driver's own share, less than this."""

GUIDE = "guide vllm-pd-connectors, section 1"

DRIVER = Rule(
    id="nvidia-driver",
    what="NVIDIA's driver answers on hosts with GPU engines.",
    expected="nvidia-smi lists the host's GPUs",
    fix=(
        "install NVIDIA's driver from the distribution's or NVIDIA's repository, reboot, and try "
        "`nvidia-smi` there; pdinfra does not install it"
    ),
    source=GUIDE,
)
GPU = Rule(
    id="nvidia-gpu",
    what="Every planned GPU exists.",
    expected="the planned GPUs",
    fix="set pd_devices to ids that nvidia-smi shows",
    source="document docker, device requests",
)
MEMORY = Rule(
    id="nvidia-memory",
    what="The memory of a planned GPU is free before its engine starts.",
    expected="the share that vLLM takes is free",
    fix="`nvidia-smi` names the processes on it: stop them, or lower pd_gpu_memory_utilization",
    source="document vllm, --gpu-memory-utilization: it refuses to start with less",
)
RUNTIME = Rule(
    id="nvidia-runtime",
    what="Docker can give GPUs to containers: NVIDIA's container toolkit and runtime.",
    expected="container toolkit installed, runtime nvidia known to Docker",
    fix="remove `pd_nvidia_runtime: false` and `up` installs it, or install it by hand",
    source=GUIDE,
)
VERSIONS = Rule(
    id="nvidia-driver-versions",
    what="All hosts have the same driver version.",
    expected="one driver version on all hosts",
    fix="bring the other hosts to one version, one at a time",
    source="guide vllm-ray-tensor-parallel: one image runs on all hosts",
    severity="warn",
)
RULES: tuple[Rule, ...] = (DRIVER, GPU, MEMORY, RUNTIME, VERSIONS)


def checks(plan: Plan, facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Yield the checks of all observed hosts that have GPU engines, good ones too."""
    versions: dict[str, str] = {}
    for host in plan.hosts:
        if host.name not in facts or not _gpu_engines(host):
            continue
        seen = facts[host.name]
        found = seen.nvidia or NvidiaFact(error="nvidia-smi was not asked")
        yield _driver(host, found)
        yield _runtime(host, found, seen)
        if found.error is None:
            versions[host.name] = found.gpus[0].driver
            yield from _gpus(host, found, seen)
    if len(versions) > 1:
        yield _versions(versions)


def _gpu_engines(host: HostPlan) -> list[Container]:
    """Return the containers that own GPUs."""
    return [container for container in host.containers if container.spec.gpus]


def _driver(host: HostPlan, found: NvidiaFact) -> Check:
    """nvidia-smi lists GPUs."""
    if found.error is not None:
        return DRIVER.bad(host.name, found.error)
    return DRIVER.ok(host.name, f"driver {found.gpus[0].driver}, {len(found.gpus)} GPUs")


def _runtime(host: HostPlan, found: NvidiaFact, seen: HostFacts) -> Check:
    """Toolkit and runtime are there, or `up` brings them."""
    missing = [] if found.toolkit else ["no NVIDIA container toolkit"]
    if "nvidia" not in seen.docker.runtimes:
        missing.append("Docker does not know the runtime nvidia")
    if not missing:
        return RUNTIME.ok(host.name, "toolkit and runtime")
    if "nvidia" in host.runtimes:
        return RUNTIME.ok(host.name, f"{', '.join(missing)}: `up` installs it")
    return RUNTIME.bad(host.name, ", ".join(missing))


def _gpus(host: HostPlan, found: NvidiaFact, seen: HostFacts) -> Iterator[Check]:
    """Every planned GPU exists and, before its engine starts, has the memory that it will take."""
    there = ", ".join(str(gpu.index) for gpu in found.gpus)
    for container in _gpu_engines(host):
        gpus = {int(index): found.gpu(int(index)) for index in container.spec.gpus}
        wanted = f"GPU {', '.join(map(str, gpus))} for {container.id}"
        if None in gpus.values():
            yield GPU.bad(host.name, f"GPUs {there}", expected=wanted)
        else:
            yield GPU.ok(host.name, f"GPUs {there}", expected=wanted)
        fact = seen.container(container.id)
        if fact is not None and fact.state in ("running", "restarting"):
            continue  # What is used on its GPUs is its own.
        share = memory_share(container.spec)
        yield from (_memory(host.name, container.id, gpu, share) for gpu in gpus.values() if gpu)


def _memory(host: str, engine: str, gpu: GpuFact, share: float) -> Check:
    """The engine's share is free; what others use besides is worth a warning."""
    free = gpu.memory_total - gpu.memory_used
    need = int(gpu.memory_total * share)
    total = _gib(gpu.memory_total)
    found = f"GPU {gpu.index}: {_gib(free)} of {total} free"
    expected = f"{_gib(need)} ({share:.0%}) for {engine}"
    if free < need:
        return MEMORY.bad(host, found, expected=expected)
    if gpu.memory_used > IDLE_BYTES:
        return MEMORY.bad(host, found, expected=f"nobody else on {engine}'s GPU", severity="warn")
    return MEMORY.ok(host, found, expected=expected)


def _versions(by_host: Mapping[str, str]) -> Check:
    """One driver version everywhere."""
    names = " → ".join(by_host)
    if len(set(by_host.values())) == 1:
        return VERSIONS.ok(names, next(iter(by_host.values())))
    listed = ", ".join(f"{version} on {host}" for host, version in by_host.items())
    return VERSIONS.bad(names, listed)


def _gib(size: int) -> str:
    """Return bytes as GiB."""
    return f"{size / GIB:.1f} GiB"
