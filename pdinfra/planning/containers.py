"""Instances and router → container specs: devices, mounts, limits, healthchecks, labels."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Literal

from pdinfra.model.plan import (
    LABEL_ENV,
    LABEL_INSTANCE,
    LABEL_ROLE,
    LABEL_SERVICE,
    LABEL_SPEC,
    LABEL_USER,
    Container,
    ContainerKind,
    ContainerSpec,
    Healthcheck,
    Mount,
    Router,
)
from pdinfra.stacks.base import ASCEND_CONTROL, Engine, Launch

GIB = 1024**3
MIB = 1024**2

NVIDIA_ULIMITS = ("memlock:-1:-1", "stack:67108864:67108864")
"""Guide vllm-pd-connectors."""


def instance_spec(engine: Engine, image: str, launch: Launch) -> ContainerSpec:
    """Return the container of one engine: exactly its devices, never the whole machine."""
    settings = engine.settings
    ascend = engine.accelerator == "ascend"
    paired = engine.instance.role != "mixed"
    mounts = [Mount(source=engine.model_path, target=engine.model_path)]
    mounts += launch.driver if ascend else ()
    mounts += launch.mounts
    devices = [f"/dev/davinci{n}" for n in engine.instance.devices if ascend]
    gpus = [str(n) for n in engine.instance.devices if engine.accelerator == "nvidia"]
    # Vendor images that run as root count on Docker's default capabilities; others have none.
    drop_all = (engine.accelerator == "cpu" or launch.user) and not settings.privileged
    return ContainerSpec(
        image=image,
        command=launch.command,
        env=launch.env,
        devices=(*devices, *ASCEND_CONTROL) if ascend else (),
        gpus=tuple(gpus),
        mounts=tuple(mounts),
        # Cards of two engines on one host hand KV over by shared memory and CUDA IPC.
        ipc_mode="host" if paired and engine.accelerator == "nvidia" else "private",
        shm_size=int(settings.shm_gib * GIB),
        memory=int(settings.memory_gib * GIB),
        ulimits=NVIDIA_ULIMITS if engine.accelerator == "nvidia" else (),
        cap_drop=("ALL",) if drop_all else (),
        security_opts=() if settings.privileged else ("no-new-privileges",),
        privileged=settings.privileged,
        # A real model loads for minutes; a probe must not kill it (or call it sick) before.
        healthcheck=connected(engine.master, engine.instance.master_port, start_period=1800)
        if engine.node
        else _healthcheck(f"{engine.instance.url}/health", start_period=1800, health=launch.health),
        user=launch.user,
    )


def router_spec(image: str, launch: Launch, router: Router) -> ContainerSpec:
    """Return the router's container. Who its members are is in a file: they come and go."""
    if router.static:
        return ContainerSpec(
            image=image,
            command=launch.command,
            env=launch.env,
            devices=launch.devices,
            mounts=launch.mounts,
            shm_size=GIB,
            healthcheck=_healthcheck(f"{router.url}/health", 300, health=launch.health),
            user=launch.user,
        )
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
        **({LABEL_USER: spec.user} if spec.user else {}),
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


def _healthcheck(
    url: str, start_period: int, *, health: Literal["ok", "answers"] = "ok"
) -> Healthcheck:
    """Return a probe by curl, which every image of a stack has."""
    ask = ("curl", "-fsS", "-o", "/dev/null", "--noproxy", "*", "-m", "4", url)
    test: tuple[str, ...] = ("CMD", *ask)
    if health == "answers":
        # 000 is no answer at all; a path that is not known is a good one.
        code = "curl -s -o /dev/null -w '%{http_code}' --noproxy '*' -m 4 " + url
        test = ("CMD-SHELL", f'case "$({code})" in 000|5??) exit 1;; esac')
    return _every_few_seconds(test, start_period)


def connected(address: str, port: int, start_period: int) -> Healthcheck:
    """Return a probe for workers without an API: their connection to the first host is open.

    It is one of torch's store, open for as long as both ends live. The kernel's table has the other
    end in hex; torch's sockets are of IPv6, with IPv4 addresses inside (measured).
    """
    packed = ip_address(address).packed
    words = [packed[n : n + 4][::-1].hex().upper() for n in range(0, len(packed), 4)]
    inside = "0000000000000000FFFF0000" if len(words) == 1 else ""
    other_end = f"({inside})?{''.join(words)}:{port:04X}"
    line = f"^ *[0-9]+: [0-9A-F]+:[0-9A-F]+ {other_end} 01 "
    test = ("CMD", "grep", "-qE", line, "/proc/net/tcp", "/proc/net/tcp6")
    return _every_few_seconds(test, start_period)


def _every_few_seconds(test: tuple[str, ...], start_period: int) -> Healthcheck:
    """Return a probe with the pace that all have."""
    return Healthcheck(
        test=test,
        interval=5,
        timeout=5,
        retries=3,
        start_period=start_period,
    )
