"""Docker's inspect documents → container facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pdinfra.model.facts import ContainerFact, DockerFact
from pdinfra.model.plan import (
    LABEL_ENV,
    LABEL_INSTANCE,
    LABEL_ROLE,
    LABEL_SERVICE,
    LABEL_SPEC,
    LABEL_USER,
    ContainerSpec,
    Healthcheck,
    Mount,
)

NANO = 10**9
HEALTH: dict[str, Literal["healthy", "unhealthy", "starting", "none"]] = {
    "healthy": "healthy",
    "unhealthy": "unhealthy",
    "starting": "starting",
}


def docker_fact(raw: Mapping[str, Any]) -> DockerFact:
    """Read the engine's state from what the facts module brought."""
    error = raw.get("error")
    if error:
        at_boot = bool(raw.get("at_boot"))
        return DockerFact(state=error["kind"], detail=error["text"], at_boot=at_boot)
    info = raw.get("info", {})
    return DockerFact(
        state="running",
        version=raw.get("version", {}).get("Version", ""),
        root=info.get("DockerRootDir", ""),
        runtimes=tuple(info.get("Runtimes") or ()),
    )


def image_ids(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return image ids by every name they have, ``name:tag`` and ``name@digest``."""
    found = {}
    for image in raw.get("images") or []:
        for name in [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]:
            found[name] = image["Id"]
    return found


def container_fact(inspect: Mapping[str, Any]) -> ContainerFact:
    """Read one inspect document (Docker API v1.40 and later)."""
    config, state = inspect["Config"], inspect["State"]
    labels = config.get("Labels") or {}
    status = (state.get("Health") or {}).get("Status", "none")
    return ContainerFact(
        name=inspect["Name"].lstrip("/"),
        container_id=inspect["Id"],
        started_at=state.get("StartedAt", ""),
        service=labels.get(LABEL_SERVICE, ""),
        id=labels.get(LABEL_INSTANCE, ""),
        role=labels.get(LABEL_ROLE, ""),
        spec_digest=labels.get(LABEL_SPEC, ""),
        state=state.get("Status", "unknown"),
        health=HEALTH.get(status, "none"),
        exit_code=state.get("ExitCode", 0),
        restarts=inspect.get("RestartCount", 0),
        image_id=inspect.get("Image", ""),
        spec=_spec(inspect, labels.get(LABEL_ENV, ""), planned_user=LABEL_USER in labels),
        last_log=tuple(inspect.get("pdinfra_log") or ()),
    )


def _spec(inspect: Mapping[str, Any], env_names: str, *, planned_user: bool) -> ContainerSpec:
    """Read back what made the container, so that a drift by hand shows as well."""
    config, host = inspect["Config"], inspect["HostConfig"]
    planned = set(filter(None, env_names.split(",")))
    env = dict(item.partition("=")[::2] for item in config.get("Env") or [])
    logs = (host.get("LogConfig") or {}).get("Config") or {}
    return ContainerSpec(
        image=config["Image"],
        command=tuple(config.get("Cmd") or ()),
        env={name: value for name, value in env.items() if name in planned},
        devices=tuple(device["PathOnHost"] for device in host.get("Devices") or []),
        gpus=tuple(
            gpu
            for request in host.get("DeviceRequests") or []
            for gpu in request["DeviceIDs"] or []
        ),
        mounts=tuple(_mounts(host)),
        network_mode=host.get("NetworkMode", ""),
        ipc_mode=host.get("IpcMode") or "private",
        pid_mode=host.get("PidMode") or None,
        shm_size=host.get("ShmSize", 0),
        memory=host.get("Memory", 0),
        ulimits=tuple(
            f"{limit['Name']}:{limit['Soft']}:{limit['Hard']}"
            for limit in host.get("Ulimits") or []
        ),
        cap_drop=tuple(host.get("CapDrop") or ()),
        # Docker adds label=disable to a privileged container by itself.
        security_opts=tuple(o for o in host.get("SecurityOpt") or () if o != "label=disable"),
        privileged=bool(host.get("Privileged")),
        init=bool(host.get("Init")),
        restart_policy=(host.get("RestartPolicy") or {}).get("Name", ""),
        stop_timeout=config.get("StopTimeout") or 10,
        healthcheck=_healthcheck(config.get("Healthcheck") or {}),
        user=config.get("User") if planned_user else None,
        log_max_size=logs.get("max-size", ""),
        log_max_file=logs.get("max-file", ""),
    )


def _mounts(host: Mapping[str, Any]) -> list[Mount]:
    """Return the bind mounts, in whichever of Docker's two forms they were given."""
    mounts = [
        Mount(source=m["Source"], target=m["Target"], read_only=bool(m.get("ReadOnly")))
        for m in host.get("Mounts") or []
        if m.get("Type") == "bind"
    ]
    for bind in host.get("Binds") or []:
        source, target, *mode = bind.split(":")
        read_only = "ro" in (mode[0].split(",") if mode else ())
        mounts.append(Mount(source=source, target=target, read_only=read_only))
    return mounts


def _healthcheck(raw: Mapping[str, Any]) -> Healthcheck:
    """Return the healthcheck in seconds."""
    return Healthcheck(
        test=tuple(raw.get("Test") or ()),
        interval=raw.get("Interval", 0) // NANO,
        timeout=raw.get("Timeout", 0) // NANO,
        retries=raw.get("Retries", 0),
        start_period=raw.get("StartPeriod", 0) // NANO,
    )
