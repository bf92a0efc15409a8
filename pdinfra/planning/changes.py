"""Plan minus facts: what has to happen on a host, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import get_args

from pdinfra.model.changes import Change, FieldChange, Kind
from pdinfra.model.facts import ContainerFact, HostFacts
from pdinfra.model.plan import Container, ContainerSpec, HostPlan, Image
from pdinfra.planning.drivers import driver_changes, unseen_driver_changes

RUNNING = ("running", "restarting")
STAGES: tuple[Kind, ...] = get_args(Kind)
"""What a host's changes are made in."""


KINDS: dict[str, Kind] = {
    "router": "router",
    "etcd": "etcd",
    "datasystem": "worker",
    "yr-master": "master",
    "yr-agent": "agent",
    "ray-head": "head",
    "ray-node": "node",
}
"""Of containers that no plan wants, by their role; all others are instances."""


def host_changes(plan: HostPlan, facts: HostFacts, authority: str = "") -> list[Change]:
    """Return one host's changes, in the order in which they will be made.

    authority: as in the plan's Store.
    """
    changes = (
        [] if plan.spare else [*driver_changes(plan, facts.driver), *_prerequisites(plan, facts)]
    )
    certificate = plan.identity and facts.certificate_gap(plan.identity, authority)
    if plan.identity and certificate:
        row = {"host": plan.name, "kind": "certificate", "id": plan.identity.folder}
        made_anew = {**row, "action": "create", "reason": certificate}
        changes.append(Change.model_validate(made_anew))
    images = {image.ref: image for image in plan.images}
    made = [_container_change(c, images.get(c.spec.image), facts) for c in plan.containers]
    changes += [_with_new_certificate(change) for change in made] if certificate else made
    planned = {*plan.neighbours, *(container.id for container in plan.containers)}
    changes += removals(plan.name, (c for c in facts.containers if c.id not in planned))
    return changes


def unseen_changes(plan: HostPlan) -> list[Change]:
    """Return what a host that was not looked at is to have: everything, as to be created."""
    wanted: list[tuple[Kind, str]] = [("runtime", name) for name in plan.runtimes]
    wanted += [("image", image.ref) for image in plan.images]
    wanted += [("model", model.path) for model in plan.models if model.source != "directory"]
    wanted += [("certificate", plan.identity.folder)] if plan.identity else []
    tables = plan.observe.rank_tables
    wanted += [("ranktable", tables)] if tables and plan.containers else []
    wanted += [(container.kind, container.id) for container in plan.containers]
    reason = "planned; the host was not looked at"
    return unseen_driver_changes(plan, reason) + [
        Change(host=plan.name, kind=kind, id=name, action="create", reason=reason)
        for kind, name in wanted
    ]


def removals(host: str, containers: Iterable[ContainerFact]) -> list[Change]:
    """Return the removal of containers of the service that no plan wants."""
    return [
        Change(
            host=host,
            kind=KINDS.get(container.role, "instance"),
            id=container.id,
            action="remove",
            reason="not in the plan",
            container=container.name,
        )
        for container in containers
    ]


def _prerequisites(plan: HostPlan, facts: HostFacts) -> list[Change]:
    """Return what a host needs before a container can start on it, as far as it is not there."""
    changes = []

    def create(kind: Kind, name: str, reason: str) -> None:
        changes.append(Change(host=plan.name, kind=kind, id=name, action="create", reason=reason))

    if facts.docker.state in ("absent", "stopped"):
        how = "install and start it" if facts.docker.state == "absent" else "start it"
        create("engine", "docker", f"no Docker engine answers: {how}")
    if "nvidia" in plan.runtimes and (missing := _nvidia_missing(facts)):
        create("runtime", "nvidia", f"{missing}: install and register it")
    for image in plan.images:
        if not facts.has_image(image):
            create("image", image.ref, f"not on the host: {_how(image, plan.published)}")
    for model in plan.models:
        if gap := facts.model_gap(model):
            create("model", model.path, f"{gap}: {model.delivery}")
    return changes


def _nvidia_missing(facts: HostFacts) -> str:
    """Return what keeps Docker from giving GPUs to containers; empty if nothing does."""
    if facts.nvidia is None or not facts.nvidia.toolkit:
        return "NVIDIA's container toolkit is not on the host"
    if "nvidia" not in facts.docker.runtimes:
        return "Docker does not know NVIDIA's runtime"
    return ""


def _how(image: Image, published: Mapping[str, Image]) -> str:
    """Return how an image comes to a host."""
    if image.ref in published:
        return "pull it (the controller builds and pushes it if the registry lacks it)"
    through = f" as {image.remote}" if image.remote not in (None, image.ref) else ""
    return f"{image.source} it{through}"


def _with_new_certificate(change: Change) -> Change:
    """Replace what reads a certificate once, when it starts."""
    if change.kind not in ("etcd", "worker") or change.action != "keep":
        return change
    return change.model_copy(update={"action": "replace", "reason": "gets a new certificate"})


def _container_change(wanted: Container, image: Image | None, facts: HostFacts) -> Change:
    """Compare one container with what is there."""

    def change(action: str, reason: str, fields: tuple[FieldChange, ...] = ()) -> Change:
        return Change.model_validate(
            {
                "host": wanted.host,
                "kind": wanted.kind,
                "id": wanted.id,
                "action": action,
                "reason": reason,
                "fields": fields,
            }
        )

    found = facts.container(wanted.id)
    if found is None:
        return change("create", "no such container")
    fields = spec_changes(found.spec, wanted.spec)
    if fields:
        return change("replace", "; ".join(str(field) for field in fields), fields)
    if found.spec_digest != wanted.spec.digest:
        fields = (FieldChange(field="spec", old=found.spec_digest, new=wanted.spec.digest),)
        return change("replace", "made by another release of pdinfra", fields)
    if found.state not in RUNNING:
        return change("replace", f"is {found.state} (exit code {found.exit_code}), should run")
    if found.health == "unhealthy":
        return change("replace", "is unhealthy")
    if image is not None and not facts.has_image(image):
        return change("replace", f"its image {image.ref} is brought anew ({image.source})")
    current = facts.images.get(wanted.spec.image)
    if current and found.image_id != current:
        fields = (FieldChange(field="image id", old=found.image_id[:19], new=current[:19]),)
        return change("replace", f"{wanted.spec.image} is another image now", fields)
    return change("keep", "as planned")


def spec_changes(old: ContainerSpec, new: ContainerSpec) -> tuple[FieldChange, ...]:
    """Return the fields that differ; environment and command line by their parts."""
    before, after = _flat(old), _flat(new)
    return tuple(
        FieldChange(field=key, old=before.get(key, "(unset)"), new=after.get(key, "(unset)"))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def _flat(spec: ContainerSpec) -> dict[str, str]:
    """Return a spec as one level of names that a person recognises."""
    data = spec.model_dump(mode="json")
    env = data.pop("env")
    command = data.pop("command")
    # Docker keeps no order of these.
    data["mounts"] = sorted(data["mounts"], key=lambda mount: str(mount["target"]))
    flat = {key: v if isinstance(v, str) else json.dumps(v) for key, v in data.items()}
    flat |= {f"env {name}": value for name, value in env.items()}
    return flat | _arguments(command)


def _arguments(command: list[str]) -> dict[str, str]:
    """Return a command line as {option: values}; what stands before all options is `command`."""
    options: dict[str, list[str]] = {"command": []}
    name = "command"
    for word in command:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            options.setdefault(name, []).extend([value] if value else [])
        else:
            options[name].append(word)
    flat: dict[str, str] = {}
    for name, values in options.items():
        flat |= _parts(name, " ".join(values) if values else "set")
    return flat


def _parts(name: str, value: str) -> dict[str, str]:
    """Return an option whose value is a JSON object by the object's fields, others as they are."""
    if not value.startswith("{"):
        return {name: value}
    try:
        data = json.loads(value)
    except ValueError:
        return {name: value}
    parts: dict[str, str] = {}
    for key, inner in data.items():
        text = inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)
        parts |= _parts(f"{name} {key}", text)
    return parts


def stages(changes: Iterable[Change], *, check: bool) -> list[Kind]:
    """Return which stages have something to do.

    In check mode nothing before a stage was really done, so only the first ones that can be looked
    at on their own are returned: no image without an engine, no container without its image.
    """
    todo = {change.kind for change in changes if change.action != "keep"}
    ordered = [stage for stage in STAGES if stage in todo]
    if not check or not ordered:
        return ordered
    if "engine" in todo:
        return [
            stage
            for stage in ordered
            if stage in ("host", "driver", "engine", "model", "certificate", "ranktable")
        ]
    before = ("host", "driver", "runtime", "image", "model", "certificate", "ranktable")
    if todo & set(before):
        return [stage for stage in ordered if stage in before]
    return ordered
