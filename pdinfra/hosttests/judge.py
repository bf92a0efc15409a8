"""What a host is to be and what it is → verdicts. Pure; each test is one of these calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pdinfra.hosttests.seen import Document, Entry, Process, Seen, plain
from pdinfra.model.plan import (
    LABEL_INSTANCE,
    Container,
    HostPlan,
    Image,
    ListenPort,
    ManagedFile,
    Mount,
)
from pdinfra.planning.changes import spec_changes
from pdinfra.reading.docker import container_fact

ASPECT_OF = {
    "image": "image",
    "devices": "devices",
    "gpus": "devices",
    "mounts": "mounts",
    "cap_drop": "privileges",
    "security_opts": "privileges",
    "privileged": "privileges",
    "user": "privileges",
    "init": "lifecycle",
    "restart_policy": "lifecycle",
    "stop_timeout": "lifecycle",
    "healthcheck": "lifecycle",
    "log_max_size": "logs",
    "log_max_file": "logs",
}
OTHERS = "limits"
"""Where every other field of a spec belongs (network, memory, ...): none is left out."""
ASPECTS = (
    "image",
    "command",
    "environment",
    "labels",
    "devices",
    "mounts",
    "privileges",
    "lifecycle",
    "logs",
    OTHERS,
)
AS_PLANNED = "as planned"
EVERYWHERE = frozenset({"0.0.0.0", "::"})
WRITABLE_BY_ALL = 0o002
SHOWN = 3


@dataclass(frozen=True)
class Verdict:
    """What one test found and what it expected."""

    ok: bool
    found: str
    expected: str


def same(found: str, expected: str) -> Verdict:
    """Return the verdict that holds if both are one."""
    return Verdict(found == expected, found, expected)


def engine(seen: Seen) -> Verdict:
    """Docker answers."""
    found = seen.engine_error or f"Docker {seen.version}"
    return Verdict(not seen.engine_error, found, "a Docker engine that answers")


def log_rotation(seen: Seen) -> Verdict:
    """The engine rotates the logs of containers that bring no limit of their own."""
    expected = "json-file with a max-size in /etc/docker/daemon.json, or another log driver"
    if seen.logging_driver != "json-file":
        return Verdict(bool(seen.logging_driver), seen.logging_driver or "no log driver", expected)
    try:
        options = json.loads(seen.daemon or "{}").get("log-opts") or {}
    except (ValueError, AttributeError):
        return Verdict(False, "a daemon.json that is no JSON object", expected)
    size = options.get("max-size")
    found = f"json-file, max-size {size}" if size else "json-file without a max-size"
    return Verdict(bool(size), found, expected)


def image(seen: Seen, planned: Image) -> Verdict:
    """The image is there by its name and, if one is planned, its digest."""
    found = seen.images.get(planned.ref)
    if planned.digest is None:
        return Verdict(found is not None, found["Id"] if found else "no such image", planned.ref)
    expected = f"{planned.ref} with digest {planned.digest}"
    if found is None:
        return Verdict(False, "no such image", expected)
    digests = [name.rpartition("@")[2] for name in found["RepoDigests"] or []]
    return Verdict(planned.digest in digests, ", ".join(digests) or "no digest", expected)


def membership(seen: Seen, node: HostPlan) -> Verdict:
    """The service's containers are those of the plan, no more."""
    planned = {container.id for container in node.containers}
    surplus = seen.containers.keys() - planned - set(node.neighbours)
    found = planned & seen.containers.keys() | surplus
    return same(_list(found), _list(planned))


def running(container: Document | None) -> Verdict:
    """The container runs and its healthcheck is content."""
    expected = "running, healthy"
    if container is None:
        return Verdict(False, "no such container", expected)
    state = container["State"]
    if state["Status"] != "running":
        return Verdict(False, f"{state['Status']} (exit code {state['ExitCode']})", expected)
    return same(f"running, {(state.get('Health') or {}).get('Status', 'no health')}", expected)


def aspect(name: str, container: Document, planned: Container, seen: Seen) -> Verdict:
    """One aspect of a container (see ASPECTS) is as planned, with nothing besides."""
    fields = [
        change
        for change in spec_changes(container_fact(container).spec, planned.spec)
        if _aspect_of(change.field) == name
    ]
    found = [f"{change.field} {change.old}" for change in fields]
    expected = [f"{change.field} {change.new}" for change in fields]
    for extra, wanted in BESIDES[name](container, planned, seen) if name in BESIDES else []:
        found.append(extra)
        expected.append(wanted)
    return Verdict(not found, "; ".join(found) or AS_PLANNED, "; ".join(expected) or AS_PLANNED)


def device(seen: Seen, path: str) -> Verdict:
    """A planned device is a device node on the host."""
    entry = seen.paths.get(path)
    return same(entry.kind if entry else "nothing there", "character special file")


def mount_source(seen: Seen, planned: Mount) -> Verdict:
    """The source of a mount exists: Docker would refuse, or make an empty directory of it."""
    entry = seen.paths.get(planned.source)
    return Verdict(
        entry is not None, entry.kind if entry else "nothing there", f"{planned.source} exists"
    )


def port(seen: Seen, planned: ListenPort) -> Verdict:
    """The planned container listens at the planned address, and nobody else on this port.

    All addresses are :: to some libraries, which is those of IPv4 as well.
    """
    owner = str(seen.containers.get(planned.owner, {}).get("Id", ""))
    addresses = seen.names.get(planned.address) or {planned.address}
    if planned.address in EVERYWHERE:
        addresses = EVERYWHERE
    listeners = [socket for socket in seen.sockets if socket.port == planned.port]
    good = [s for s in listeners if s.container == owner and s.address in map(plain, addresses)]
    found = _list(
        f"{planned.owner if socket.container == owner else socket.process} at {socket.address}"
        for socket in listeners
    )
    expected = f"{planned.owner} at {planned.address}"
    return Verdict(bool(good) and len(good) == len(listeners), found, expected)


def managed(seen: Seen, planned: ManagedFile) -> Verdict:
    """A file that pdinfra wrote, or all below a directory, has its mode and is root's."""
    if planned.tree:
        entries: Sequence[Entry] = seen.trees.get(planned.path, ())
    else:
        entries = [entry for entry in (seen.paths.get(planned.path),) if entry]
    expected = f"root's, mode {planned.mode}"
    if planned.tree:
        expected += f" (directories {planned.directory_mode})"
    if not entries:
        return Verdict(not planned.required, "not there", expected)
    wrong = [entry for entry in entries if not _as_managed(entry, planned)]
    return Verdict(not wrong, _modes(wrong) or AS_PLANNED, expected)


def readable(entries: Sequence[Entry], process: Process, path: str) -> Verdict:
    """A container's process can read a model: all of its files and directories."""
    expected = f"{path} readable for uid {process.uid}"
    if not entries:
        return Verdict(False, "not there", expected)
    closed = [entry for entry in entries if not process.may_read(entry)]
    return Verdict(not closed, _modes(closed) or "readable", expected)


def _as_managed(entry: Entry, planned: ManagedFile) -> bool:
    """Tell whether a file has its mode and owner."""
    mode = planned.directory_mode if entry.is_directory else planned.mode
    return entry.uid == 0 and entry.mode == int(mode, 8)


def _aspect_of(field: str) -> str:
    """Return the aspect that a changed field belongs to."""
    if field.startswith("env "):
        return "environment"
    if field == "command" or field.startswith("--"):
        return "command"
    return ASPECT_OF.get(field, OTHERS)


Differences = Iterable[tuple[str, str]]


def _strange_variables(container: Document, planned: Container, seen: Seen) -> Differences:
    """Variables that neither the plan nor the image has; their values may be secrets."""
    origin = seen.origins.get(container["Image"])
    inherited = (origin or {}).get("Config", {}).get("Env") or []
    known = {*planned.spec.env, *(item.partition("=")[0] for item in inherited)}
    names = {item.partition("=")[0] for item in container["Config"]["Env"] or []}
    if origin is None or names <= known:
        return []
    return [(f"also {_list(names - known)}", "no variable besides the plan's and the image's")]


def _labels(container: Document, planned: Container, seen: Seen) -> Differences:
    """Labels of pdinfra are the planned ones."""
    labels = container["Config"]["Labels"] or {}
    prefix = LABEL_INSTANCE.partition(".")[0] + "."
    names = planned.labels.keys() | {name for name in labels if name.startswith(prefix)}
    return [
        (f"{name} {labels.get(name, '(unset)')}", f"{name} {planned.labels.get(name, '(unset)')}")
        for name in sorted(names)
        if labels.get(name) != planned.labels.get(name)
    ]


def _image_id(container: Document, planned: Container, seen: Seen) -> Differences:
    """It was made of the image that has the planned name now."""
    now = seen.images.get(planned.spec.image)
    if now is None or now["Id"] == container["Image"]:
        return []
    return [(f"made of {container['Image'][:19]}", f"{planned.spec.image} is {now['Id'][:19]}")]


def _added_capabilities(container: Document, planned: Container, seen: Seen) -> Differences:
    """The plan adds no capability."""
    added = container["HostConfig"].get("CapAdd") or []
    return [(f"cap_add {_list(added)}", "no added capability")] if added else []


def _log_driver(container: Document, planned: Container, seen: Seen) -> Differences:
    """The limits of the plan are those of json-file."""
    driver = container["HostConfig"]["LogConfig"]["Type"]
    return [] if driver == "json-file" else [(f"log driver {driver}", "log driver json-file")]


def _as_mounted(container: Document, planned: Container, seen: Seen) -> Differences:
    """What is mounted can be written to only where that is planned, whatever was asked for."""
    writable = {mount["Destination"] for mount in container.get("Mounts") or [] if mount["RW"]}
    return [
        (f"{mount.target} writable", f"{mount.target} read-only")
        for mount in planned.spec.mounts
        if mount.read_only and mount.target in writable
    ]


BESIDES: dict[str, Callable[[Document, Container, Seen], Differences]] = {
    "environment": _strange_variables,
    "labels": _labels,
    "image": _image_id,
    "privileges": _added_capabilities,
    "logs": _log_driver,
    "mounts": _as_mounted,
}
"""What an aspect covers besides the fields of the spec."""


def _modes(entries: Sequence[Entry]) -> str:
    """Return the first files with their modes and owners, and how many more there are."""
    shown = [
        f"{entry.path} {entry.mode:04o} of {entry.uid}:{entry.gid}"
        + (" (writable by everybody)" if entry.mode & WRITABLE_BY_ALL else "")
        for entry in entries[:SHOWN]
    ]
    more = len(entries) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _list(names: Iterable[str]) -> str:
    """Return names in order, or ``none``."""
    return ", ".join(sorted(set(names))) or "none"
