"""What a host says to the suite, made of a plan; then something on it is altered."""

from __future__ import annotations

from typing import Any

from pdinfra.hosttests.seen import Entry, Process, Seen, Socket
from pdinfra.model.plan import HostPlan
from tests.unit.builders import inspect

IMAGE_ID = "sha256:" + "1" * 64
DAEMON = '{"log-driver": "json-file", "log-opts": {"max-size": "50m", "max-file": "5"}}'
ADDRESS = "10.0.0.1"
USER = Process(uid=1000, gid=1000, groups=frozenset(), capabilities=0)


def container_id(number: int) -> str:
    return f"{number:064x}"


def entry(path: str, mode: int = 0o644, kind: str = "f", uid: int = 0) -> Entry:
    return Entry(path=path, mode=mode, uid=uid, gid=0, kind=kind)


def model(path: str) -> tuple[Entry, ...]:
    return entry(path, 0o755, "d"), entry(f"{path}/config.json"), entry(f"{path}/model.safetensors")


def containers(node: HostPlan) -> dict[str, dict[str, Any]]:
    """Return the planned containers' inspect documents by instance id."""
    found = {}
    for number, each in enumerate(node.containers):
        document = inspect(each) | {"Id": container_id(number)}
        mounts = [
            {"Type": "bind", "Destination": m.target, "RW": not m.read_only}
            for m in each.spec.mounts
        ]
        found[each.id] = document | {"Mounts": mounts}
    return found


def as_planned(node: HostPlan, **more: Any) -> Seen:
    """Return a host on which everything is as planned."""
    made = containers(node)
    image = {"Id": IMAGE_ID, "RepoDigests": [], "Config": {"Env": ["PATH=/opt/bin:/bin", "LANG=C"]}}
    devices = [device for c in node.containers for device in c.spec.devices]
    sources = [mount.source for c in node.containers for mount in c.spec.mounts]
    values: dict[str, Any] = {
        "version": "28.2.2",
        "logging_driver": "json-file",
        "daemon": DAEMON,
        "containers": made,
        "images": {image_.ref: image for image_ in node.images},
        "origins": {IMAGE_ID: image},
        "processes": {document["Id"]: USER for document in made.values()},
        "paths": {
            **{path: entry(path, 0o755, "directory") for path in sources},
            **{path: entry(path, 0o660, "character special file") for path in devices},
            **{file.path: entry(file.path) for file in node.files if not file.tree},
        },
        "trees": {m.path: model(m.path) for m in node.models},
        "names": {node.address: frozenset({ADDRESS})},
        "sockets": tuple(
            Socket(ADDRESS, port.port, "vllm (pid 7)", made[port.owner]["Id"])
            for port in node.ports
        ),
    }
    return Seen(**{**values, **more})
