"""Which model each host needs, and how it gets there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pdinfra.assets import Assets
from pdinfra.model.inventory import Host, HostSettings, Inventory
from pdinfra.model.plan import ListenPort, Model, Share
from pdinfra.model.problems import Problem
from pdinfra.planning.place import url
from pdinfra.planning.ports import MODEL_COPIES

HOME = "/var/lib/pdinfra/models"
TINY_NAME = "tiny-qwen2"
ENDPOINTS = {"huggingface": "https://huggingface.co", "modelscope": "https://www.modelscope.cn"}
COMMIT = re.compile(r"[0-9a-f]{40}")
BRANCHES = ("main", "master", "HEAD")
HUB_ONLY = ("model_repo", "model_revision", "model_endpoint", "model_files", "model_sha256")
SAME_AS_ORIGIN = ("model_source", "model_repo", "model_revision")


def from_hub(settings: HostSettings) -> bool:
    """Tell whether the model comes from a hub (to this host, or to the one it copies from)."""
    return settings.model_source in ENDPOINTS


def is_tiny(settings: HostSettings) -> bool:
    """Tell whether the model is the one that pdinfra ships."""
    return settings.model_path is None and not from_hub(settings)


def model_path(host: Host, assets: Assets) -> str:
    """Return the model's directory.

    What the directory holds never changes: the shipped model has its digest in its name, and each
    revision from a hub has a directory of its own. So another revision is another path, engines
    that run keep theirs, and going back is a re-run.
    """
    settings = host.settings
    if is_tiny(settings):
        return f"{HOME}/{TINY_NAME}-{assets.tiny_model}"
    if not from_hub(settings):
        return settings.model_path or ""
    folder = (settings.model_path or f"{HOME}/{settings.model_repo}").rstrip("/")
    return f"{folder}/{(settings.model_revision or '')[:12]}"


def model_name(settings: HostSettings) -> str:
    """Return the name that clients use."""
    if settings.model_name:
        return settings.model_name
    path = (settings.model_path or settings.model_repo or "").rstrip("/")
    return path.rpartition("/")[2] or TINY_NAME


def host_models(
    host: Host,
    inventory: Inventory,
    parallel: Sequence[int],
    assets: Assets,
    *,
    router: bool = False,
) -> tuple[Model, ...]:
    """Return the model directories that a host needs.

    parallel: the tensor parallel sizes of its engines. A host without engines needs a model only
    if others copy it from there, or if the router on it reads one.
    """
    if not parallel and not router and not _receivers(host, inventory):
        return ()
    settings = host.settings
    path = model_path(host, assets)
    sizes = tuple(sorted(set(parallel)))
    if is_tiny(settings):
        return (Model(path=path, source="tiny", tensor_parallel_sizes=sizes),)
    origin = _origin(host, inventory)
    repo, revision = _identity(origin or host)
    common = {"path": path, "tensor_parallel_sizes": sizes, "repo": repo, "revision": revision}
    if origin is not None:
        endpoint = url(origin.address, origin.settings.model_port)
        copied = {"source": "host", "endpoint": endpoint, "origin": origin.name}
        return (Model.model_validate(common | copied),)
    if settings.model_source not in ENDPOINTS:
        return (Model.model_validate(common | {"source": "directory"}),)
    more: dict[str, Any] = {
        "source": settings.model_source,
        "endpoint": (settings.model_endpoint or ENDPOINTS[settings.model_source]).rstrip("/"),
        "files": settings.model_files or (),
        "sha256": settings.model_sha256,
    }
    return (Model.model_validate(common | more),)


def model_share(host: Host, inventory: Inventory, assets: Assets) -> Share | None:
    """Return what a host hands to those that copy the model from it."""
    if not _receivers(host, inventory):
        return None
    repo, revision = _identity(host)
    return Share(
        path=model_path(host, assets),
        address=host.address,
        port=host.settings.model_port,
        repo=repo,
        revision=revision,
    )


def share_ports(host: Host, inventory: Inventory) -> list[ListenPort]:
    """Return the port that others copy the model by."""
    if not _receivers(host, inventory):
        return []
    port = host.settings.model_port
    return [ListenPort(port=port, address=host.address, owner="model", purpose=MODEL_COPIES)]


def model_problems(host: Host, inventory: Inventory) -> list[Problem]:
    """Check that the model can be got the way the inventory says."""
    settings = host.settings
    problems = []

    def problem(thing: str, cause: str, fix: str) -> None:
        problems.append(Problem(host=host.name, thing=thing, cause=cause, fix=fix))

    source = settings.model_source
    if source == "directory" and settings.model_path is None:
        cause = "missing, but pd_model_source is directory"
        problem("pd_model_path", cause, "set pd_model_path to the model's directory on the host")
    if not from_hub(settings):
        for field in HUB_ONLY:
            if getattr(settings, field):
                fix = "set pd_model_source to huggingface or modelscope, or remove it"
                problem(f"pd_{field}", "means something only when a hub is downloaded from", fix)
        return problems + _origin_problems(host, inventory)
    if settings.model_repo is None:
        cause = f"missing, but pd_model_source is {source}"
        problem("pd_model_repo", cause, "set it, such as Qwen/Qwen2.5-7B-Instruct")
    problems += _revision_problems(host)
    return problems + _origin_problems(host, inventory)


def _revision_problems(host: Host) -> list[Problem]:
    """Check that the revision is one that cannot move.

    A branch moves, and a tag of Hugging Face can be moved: hosts that download on two days would
    run two models.
    """
    settings = host.settings
    revision = settings.model_revision
    source = settings.model_source or ""
    endpoint = settings.model_endpoint or ENDPOINTS[source]
    repo = settings.model_repo or "ORG/NAME"
    cause = ""
    if revision is None:
        cause = f"missing, but pd_model_source is {source}"
    elif revision in BRANCHES:
        cause = f"{revision} is a branch: what it names changes"
    elif source == "huggingface" and not COMMIT.fullmatch(revision):
        cause = f"{revision} is not a commit"
    if not cause:
        return []
    if source == "huggingface":
        shown = f"`git ls-remote {endpoint}/{repo} {revision or 'main'}` prints it"
        fix = f"set it to the commit, 40 hex digits: {shown}"
    else:
        fix = "set it to a tag or a commit of the model, see its page on the hub"
    return [Problem(host=host.name, thing="pd_model_revision", cause=cause, fix=fix)]


def _origin_problems(host: Host, inventory: Inventory) -> list[Problem]:
    """Check the host that the model is copied from."""
    name = host.settings.model_from
    if name is None:
        return []
    hosts = {each.name: each for each in inventory.hosts}
    origin = hosts.get(name)
    if origin is None:
        cause, fix = f"no host {name} in the service", f"name one of {', '.join(hosts)}"
    elif is_tiny(host.settings):
        cause = "there is no model to copy: pdinfra's own tiny model is put on every host"
        fix = "set pd_model_path or pd_model_source, or remove it"
    elif origin.settings.model_from not in (None, name):
        cause = f"{name} itself copies from {origin.settings.model_from}"
        fix = f"set it to {origin.settings.model_from}, too"
    elif differing := [
        field
        for field in SAME_AS_ORIGIN
        if getattr(host.settings, field) != getattr(origin.settings, field)
    ]:
        names = ", ".join(f"pd_{field}" for field in differing)
        cause, fix = f"{names} differ from {name}'s", "set them once, in group_vars/all.yml"
    else:
        return []
    return [Problem(host=host.name, thing="pd_model_from", cause=cause, fix=fix)]


def _origin(host: Host, inventory: Inventory) -> Host | None:
    """Return the host that this one copies the model from; None if it gets it itself."""
    name = host.settings.model_from
    if name is None or name == host.name:
        return None
    return next((each for each in inventory.hosts if each.name == name), None)


def _receivers(host: Host, inventory: Inventory) -> tuple[Host, ...]:
    """Return the hosts with engines that copy the model from this one."""
    return () if is_tiny(host.settings) else inventory.receivers.get(host.name, ())


def _identity(host: Host) -> tuple[str, str]:
    """Return what a model is known by: repository and revision, or whose directory it is."""
    settings = host.settings
    if from_hub(settings):
        return settings.model_repo or "", settings.model_revision or ""
    return f"{host.name}:{settings.model_path}", ""
