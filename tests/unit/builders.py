"""Plain values for the unit tests: inventories, plans, Docker documents, facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from pdinfra.assets import Assets
from pdinfra.model.facts import (
    CertificateFact,
    ContainerFact,
    DockerFact,
    GpuFact,
    HostFacts,
    ModelFact,
    NetworkFact,
    NvidiaFact,
    PortFact,
)
from pdinfra.model.inventory import Inventory
from pdinfra.model.plan import Container, ContainerSpec, HostPlan, Plan
from pdinfra.model.problems import InvalidInventoryError, Problem
from pdinfra.planning.load import load
from pdinfra.planning.plan import build
from pdinfra.reading.docker import container_fact

GIB = 1024**3
NANO = 10**9
NOW = 1_795_000_000.0

ASSETS = Assets(
    definitions={
        "vllm-cpu": "a" * 12,
        "vllm-router": "b" * 12,
        "yuanrong": "d" * 12,
        "vllm-ascend-yuanrong": "f" * 12,
    },
    tiny_model="c" * 12,
    tiny_heads=8,
    tiny_kv_heads=2,
    tiny_bytes=5_000_000,
)

YUANRONG: dict[str, Any] = {
    "pd_stack": "yuanrong",
    "pd_connector": "YuanrongStoreConnector",
}

WHEELS = {
    "openyuanrong-0.5.0-cp311-cp311-manylinux_2_34_x86_64.whl": "1" * 64,
    "openyuanrong_datasystem-0.5.0-cp311-cp311-manylinux2014_x86_64.whl": "2" * 64,
}
FULL: dict[str, Any] = {
    "pd_stack": "yuanrong",
    "pd_connector": "YuanRongConnector",
    "pd_accelerator": "ascend",
    "pd_image": "quay.io/ascend/vllm-ascend:v0.10.0rc1-openeuler",
    "pd_model_path": "/workspace/models/qwen2.5_7B",
    "pd_tensor_parallel_size": 4,
    "pd_router_port": 9000,
    "pd_yuanrong_wheels_dir": "/workspace/tools/wheels",
    "pd_yuanrong_wheels": WHEELS,
    "pd_yuanrong_patches": [{"path": "/workspace/tools/patch/0001-c.patch", "sha256": "3" * 64}],
    "pd_yuanrong_scripts_dir": "/workspace/tools/deploy",
}
"""openYuanrong's full mode, as in the guides. Hosts need IP addresses: see FULL_HOSTS."""
FULL_HOSTS: dict[str, dict[str, Any]] = {
    "a": {"ansible_host": "192.0.2.11"},
    "b": {"ansible_host": "192.0.2.12"},
}

AUTHORITY = "e" * 64

Groups = Mapping[str, Sequence[str]]
Vars = Mapping[str, Any]

ONE_HOST: dict[str, list[str]] = {"prefill": ["a"], "decode": ["a"], "router": ["a"]}
TWO_HOSTS: dict[str, list[str]] = {"prefill": ["a"], "decode": ["b"], "router": ["a"]}

NVIDIA: dict[str, Any] = {
    "pd_accelerator": "nvidia",
    "pd_image": "vllm/vllm-openai:v0.32.0",
    "pd_model_path": "/srv/models/qwen",
}
ON_RAY: dict[str, Any] = {
    **NVIDIA,
    "pd_image": "vllm/vllm-openai:v0.29.0",
    "pd_stack": "ray",
    "pd_ray_version": "2.60.0",
}
"""The vLLM that Ray's own package asks for."""
ASCEND: dict[str, Any] = {
    "pd_accelerator": "ascend",
    "pd_connector": "MooncakeConnectorV1",
    "pd_image": "quay.io/ascend/vllm-ascend:v0.23.0",
    "pd_model_path": "/srv/models/qwen",
    "pd_router_metrics_port": 9100,
}


def inventory(
    groups: Groups = ONE_HOST, every: Vars | None = None, **hosts: Mapping[str, Any]
) -> Inventory:
    """Load groups with variables: ``every`` for all hosts, keyword arguments for one host."""
    names = dict.fromkeys(host for group in groups.values() for host in group)
    hostvars: dict[str, dict[str, Any]] = {
        name: {**(every or {}), **hosts.get(name, {})} for name in names
    }
    for number, mine in enumerate(hostvars.values(), start=11):
        # vllm-ascend's connectors are told addresses; the other stacks' hosts may have names.
        if mine.get("pd_accelerator") == "ascend" and "pd_stack" not in mine:
            mine.setdefault("pd_address", f"192.0.2.{number}")
    return load({"all": list(names), **groups}, hostvars)


def plan(groups: Groups = ONE_HOST, every: Vars | None = None, **hosts: Mapping[str, Any]) -> Plan:
    """Load and build."""
    return build(inventory(groups, every, **hosts), ASSETS, AUTHORITY)


def problems(
    groups: Groups = ONE_HOST, every: Vars | None = None, **hosts: Mapping[str, Any]
) -> list[Problem]:
    """Return what is wrong with an inventory that must not be accepted."""
    with pytest.raises(InvalidInventoryError) as caught:
        plan(groups, every, **hosts)
    assert caught.value.problems, "an invalid inventory names its problems"
    return caught.value.problems


def lines(found: Iterable[Problem]) -> str:
    """Return problems as a person reads them."""
    return "\n".join(str(problem) for problem in found)


def only(found: Sequence[Problem]) -> Problem:
    """Return the one problem there is."""
    assert len(found) == 1, lines(found)
    return found[0]


def specs(of: Plan) -> dict[str, ContainerSpec]:
    """Return every container's spec by id."""
    return {c.id: c.spec for host in of.hosts for c in host.containers}


def option(spec: ContainerSpec, name: str) -> str:
    """Return the word after an option of a container's command."""
    return spec.command[spec.command.index(name) + 1]


def inspect(container: Container, **state: Any) -> dict[str, Any]:
    """Return Docker's inspect document (in the shape of API 1.41) of a container as planned.

    state: overrides of ``State``, such as ``Status="exited"``.
    """
    spec = container.spec
    check = spec.healthcheck
    gpus = {"Driver": "nvidia", "Count": 0, "DeviceIDs": list(spec.gpus)}
    return {
        "Id": "f" * 64,
        "Name": f"/{container.name}",
        "Image": "sha256:" + "1" * 64,
        "RestartCount": 0,
        "State": {
            "Status": "running",
            "ExitCode": 0,
            "StartedAt": "2026-11-21T14:47:45.219045962Z",
            "Health": {"Status": "healthy", "FailingStreak": 0, "Log": []},
            **state,
        },
        "Config": {
            "Image": spec.image,
            # An inspected container always has a user: its own, else its image's.
            "User": spec.user or "image-user",
            "Cmd": list(spec.command),
            "Env": ["PATH=/opt/bin:/bin", *(f"{k}={v}" for k, v in spec.env.items()), "LANG=C"],
            "Labels": {"org.opencontainers.image.title": "an image", **container.labels},
            "StopTimeout": spec.stop_timeout,
            "Healthcheck": {
                "Test": list(check.test),
                "Interval": check.interval * NANO,
                "Timeout": check.timeout * NANO,
                "Retries": check.retries,
                "StartPeriod": check.start_period * NANO,
            },
        },
        "HostConfig": {
            "Binds": None,
            "Mounts": [
                {"Type": "bind", "Source": m.source, "Target": m.target, "ReadOnly": m.read_only}
                for m in spec.mounts
            ],
            "NetworkMode": spec.network_mode,
            "IpcMode": spec.ipc_mode,
            "PidMode": spec.pid_mode or "",
            "ShmSize": spec.shm_size,
            "Memory": spec.memory,
            "Devices": [
                {"PathOnHost": d, "PathInContainer": d, "CgroupPermissions": "rwm"}
                for d in spec.devices
            ],
            "DeviceRequests": [gpus] if spec.gpus else None,
            "Ulimits": [
                {"Name": name, "Soft": int(soft), "Hard": int(hard)}
                for name, soft, hard in (limit.split(":") for limit in spec.ulimits)
            ],
            "CapDrop": list(spec.cap_drop) or None,
            "SecurityOpt": _security_options(spec) or None,
            "Privileged": spec.privileged,
            "Init": spec.init,
            "RestartPolicy": {"Name": spec.restart_policy, "MaximumRetryCount": 0},
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": spec.log_max_size, "max-file": spec.log_max_file},
            },
        },
    }


def _security_options(spec: ContainerSpec) -> list[str]:
    """Return a container's options and the one that Docker adds to privileged ones (seen)."""
    given = list(spec.security_opts)
    labelled = any(option.startswith("label") for option in given)
    return given if labelled or not spec.privileged else [*given, "label=disable"]


def observed(container: Container, **state: Any) -> ContainerFact:
    """Return a planned container as it is found on its host."""
    return container_fact(inspect(container, **state))


def facts(of: HostPlan, containers: Iterable[ContainerFact] = (), **more: Any) -> HostFacts:
    """Return a host with plenty of everything, and the planned images and models on it."""
    values: dict[str, Any] = {
        "host": of.name,
        "hostname": of.name,
        "os": "Debian GNU/Linux 12 (bookworm)",
        "clock": NOW,
        "memory_total": 512 * GIB,
        "memory_available": 500 * GIB,
        "disk_free": {"/": 900 * GIB},
        "docker": DockerFact(
            state="running", version="28.2.2", root="/var/lib/docker", runtimes=of.runtimes
        ),
        "images": {image.ref: "sha256:" + "1" * 64 for image in of.images},
        "containers": tuple(containers),
        "models": tuple(good_model(model.path) for model in of.models),
        "listening": (),
        "network": network(of),
        "nvidia": NvidiaFact(toolkit=True, gpus=gpus(8)) if of.runtimes else None,
    }
    return HostFacts.model_validate({**values, **more})


def network(of: HostPlan, **more: Any) -> NetworkFact:
    """Return a host that knows all names, its own too."""
    known = {name: (f"192.0.2.{n}",) for n, name in enumerate(of.observe.names, start=1)}
    own = known.get(of.address, (of.address,))
    values = {
        "resolved": {**known, of.name: own},
        "hosts_file": "127.0.0.1\tlocalhost\n",
        "addresses": {"127.0.0.1": "lo", own[0]: "eth0", "172.17.0.1": "docker0"},
        "default_route": "eth0",
    }
    return NetworkFact.model_validate({**values, **more})


def gpus(count: int) -> tuple[GpuFact, ...]:
    """Return idle GPUs of one driver."""
    return tuple(
        GpuFact(
            index=n,
            name="NVIDIA H100",
            driver="550.90.07",
            memory_total=80 * GIB,
            memory_used=0,
            uuid=f"GPU-{n}",
        )
        for n in range(count)
    )


def good_model(path: str, **more: Any) -> ModelFact:
    """Return a complete model directory."""
    values = {"path": path, "heads": 8, "kv_heads": 2, "weight_bytes": 5_000_000}
    return ModelFact.model_validate({**values, **more})


def listening(port: int, process: str | None = "nginx (pid 42)") -> PortFact:
    """Return a port that something listens on."""
    return PortFact(port=port, address="0.0.0.0", process=process)


def converged(of: HostPlan, **more: Any) -> HostFacts:
    """Return a host on which everything is as planned, its ports open."""
    return facts(
        of,
        [observed(container) for container in of.containers],
        **{
            "listening": tuple(listening(p.port, "vllm (pid 7)") for p in of.ports),
            "certificates": certificates(of),
            **more,
        },
    )


def certificates(of: HostPlan) -> dict[str, CertificateFact]:
    """Return a host's certificates as they have to be, valid for a year."""
    if of.identity is None:
        return {}
    folder, year = of.identity.folder, NOW + 365 * 86400
    return {
        f"{folder}/ca.crt": CertificateFact(sha256=AUTHORITY, expires=year),
        f"{folder}/node.crt": CertificateFact(
            sha256="1" * 64, expires=year, addresses=(of.identity.address, of.identity.name)
        ),
    }
