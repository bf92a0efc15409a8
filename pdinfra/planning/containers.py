"""Instances and router → container specs: devices, mounts, limits, healthchecks, labels."""

from __future__ import annotations

from collections.abc import Mapping

from pdinfra.model.plan import (
    LABEL_ENV,
    LABEL_INSTANCE,
    LABEL_ROLE,
    LABEL_SERVICE,
    LABEL_SPEC,
    Container,
    ContainerKind,
    ContainerSpec,
    Healthcheck,
    Mount,
    Router,
)
from pdinfra.stacks.base import Engine, Launch

GIB = 1024**3
MIB = 1024**2

ASCEND_CONTROL = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
ASCEND_MOUNTS = (
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/usr/local/Ascend/driver/tools/hccn_tool",
    "/etc/ascend_install.info",
    "/etc/hccn.conf",
)
"""vllm-ascend's documented mounts; without the last one KV transfer gives garbage (#7711)."""

NVIDIA_ULIMITS = ("memlock:-1:-1", "stack:67108864:67108864")
"""Guide vllm-pd-connectors."""


def instance_spec(engine: Engine, image: str, launch: Launch) -> ContainerSpec:
    """Return the container of one engine: exactly its devices, never the whole machine."""
    settings = engine.settings
    ascend = engine.accelerator == "ascend"
    mounts = [Mount(source=engine.model_path, target=engine.model_path)]
    mounts += [Mount(source=path, target=path) for path in ASCEND_MOUNTS if ascend]
    mounts += launch.mounts
    devices = [f"/dev/davinci{n}" for n in engine.instance.devices if ascend]
    gpus = [str(n) for n in engine.instance.devices if engine.accelerator == "nvidia"]
    # Vendor images run as root and count on Docker's default capabilities; ours does not.
    drop_all = engine.accelerator == "cpu" and not settings.privileged
    return ContainerSpec(
        image=image,
        command=launch.command,
        env=launch.env,
        devices=(*devices, *ASCEND_CONTROL) if ascend else (),
        gpus=tuple(gpus),
        mounts=tuple(mounts),
        shm_size=int(settings.shm_gib * GIB),
        memory=int(settings.memory_gib * GIB),
        ulimits=NVIDIA_ULIMITS if engine.accelerator == "nvidia" else (),
        cap_drop=("ALL",) if drop_all else (),
        security_opts=() if settings.privileged else ("no-new-privileges",),
        privileged=settings.privileged,
        # A real model loads for minutes; a probe must not kill it (or call it sick) before.
        healthcheck=_healthcheck(f"{engine.instance.url}/health", start_period=1800),
    )


def router_spec(image: str, launch: Launch, router: Router) -> ContainerSpec:
    """Return the router's container. Who its members are is in a file: they come and go."""
    return ContainerSpec(
        image=image,
        command=launch.command,
        env=launch.env,
        # The folder, not the file: a file that is replaced would stay the old one inside.
        mounts=(Mount(source=router.members_dir, target=router.members_dir),),
        shm_size=64 * MIB,
        # Its /health turns bad with its members; that is no reason to replace the router.
        healthcheck=_healthcheck(f"{router.url}/liveness", start_period=60),
    )


def container(
    service: str,
    part: str,
    role: str,
    host: str,
    kind: ContainerKind,
    spec: ContainerSpec,
) -> Container:
    """Name and label a spec."""
    labels: Mapping[str, str] = {
        LABEL_SERVICE: service,
        LABEL_INSTANCE: part,
        LABEL_ROLE: role,
        LABEL_SPEC: spec.digest,
        LABEL_ENV: ",".join(sorted(spec.env)),
    }
    return Container(
        id=part,
        name=f"pd-{service}-{part}",
        kind=kind,
        role=role,
        host=host,
        spec=spec,
        labels=dict(labels),
    )


def _healthcheck(url: str, start_period: int) -> Healthcheck:
    """Return a probe by curl, which every image of a stack has."""
    return Healthcheck(
        test=("CMD", "curl", "-fsS", "-o", "/dev/null", "--noproxy", "*", "-m", "4", url),
        interval=5,
        timeout=5,
        retries=3,
        start_period=start_period,
    )
