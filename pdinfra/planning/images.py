"""Images: their names, where hosts get them from, how built ones come into a registry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pdinfra.assets import Assets
from pdinfra.model.image_names import canonical, repository
from pdinfra.model.inventory import Accelerator, Host, HostSettings, ImageSource
from pdinfra.model.plan import Image
from pdinfra.model.problems import Problem
from pdinfra.versions.vllm import BUILT
from pdinfra.versions.yuanrong import DATASYSTEM

VERSIONS = {"vllm-cpu": BUILT, "vllm-router": "0.1.17", "yuanrong": DATASYSTEM}
"""Of the software in the images that pdinfra builds, by definition."""
LOCAL = "pdinfra"
"""Folder of built images that come from no registry."""

Prefix = Literal["", "router_", "yuanrong_"]


def engine_image(host: Host, assets: Assets) -> Image:
    """Return the engines' image on a host."""
    return _image(host.settings, "", "vllm-cpu", assets)


def router_image(host: Host, assets: Assets) -> Image:
    """Return the router's image on a host."""
    return _image(host.settings, "router_", "vllm-router", assets)


def yuanrong_image(host: Host, assets: Assets) -> Image:
    """Return the image of the data system and of etcd on a host."""
    return _image(host.settings, "yuanrong_", "yuanrong", assets)


def published(images: Iterable[Image], settings: HostSettings) -> dict[str, Image]:
    """Return how the images that pdinfra makes come into the registry that a host pulls from.

    Keys are the names on the host; values are what the controller builds (under the name that a
    local build has) and pushes.
    """
    registry = settings.image_push or settings.image_registry
    if registry is None:
        return {}
    return {
        image.ref: image.model_copy(
            update={
                "ref": f"{LOCAL}/{_last(image.ref)}",
                "source": "build",
                "remote": f"{registry}/{_last(image.ref)}",
            }
        )
        for image in images
        if image.source == "pull" and image.definition
    }


def image_problems(host: Host, accelerator: Accelerator) -> list[Problem]:
    """Check that every image can be got the way the inventory says."""
    settings = host.settings
    problems = []

    def problem(thing: str, cause: str, fix: str) -> None:
        problems.append(Problem(host=host.name, thing=thing, cause=cause, fix=fix))

    if host.roles and accelerator != "cpu" and _source(settings, "") == "build":
        cause = f"pdinfra builds engine images for CPU only, this is {accelerator}"
        problem("pd_image", cause, "set pd_image to your vendor's image, name:tag")
    if settings.image_push and not settings.image_registry:
        fix = "set pd_image_registry to the same registry as the hosts reach it"
        problem("pd_image_push", "given, but hosts are told no registry to pull from", fix)
    prefixes: Sequence[Prefix] = ("", "router_", "yuanrong_")
    for prefix in prefixes:
        source = getattr(settings, f"{prefix}image_source")
        variable = f"pd_{prefix}image"
        if source in ("pull", "load") and not getattr(settings, f"{prefix}image"):
            cause = f"missing, but {variable}_source is {source}"
            problem(variable, cause, f"set {variable} to name:tag")
        if source == "load" and not getattr(settings, f"{prefix}image_archive"):
            cause = "missing, but the image is to be loaded"
            problem(f"{variable}_archive", cause, f"set {variable}_archive to the tar file there")
    return problems


def _image(settings: HostSettings, prefix: Prefix, definition: str, assets: Assets) -> Image:
    """Return one image: named by the inventory, or made by pdinfra."""
    name: str | None = getattr(settings, f"{prefix}image")
    source = _source(settings, prefix)
    built = f"{definition}:{VERSIONS[definition]}-{assets.definitions[definition]}"
    if source == "build":
        given: ImageSource | None = getattr(settings, f"{prefix}image_source")
        ref = name or f"{LOCAL}/{built}"
        image = Image(ref=ref, source=source, definition=definition, base=settings.image_base)
        own = not name and given is None
        return built_image(image, settings.image_registry if own else None)
    ref = name or ""
    digest: str | None = getattr(settings, f"{prefix}image_digest")
    return Image(
        ref=ref,
        source=source,
        digest=digest,
        archive=getattr(settings, f"{prefix}image_archive"),
        remote=remote_name(ref, digest, settings.image_mirror) if source == "pull" else None,
    )


def built_image(image: Image, registry: str | None) -> Image:
    """Return how a host gets an image of ours: by building it, or from the registry if there is."""
    if registry is None:
        return image
    ref = f"{registry}/{_last(image.ref)}"
    return image.model_copy(update={"ref": ref, "source": "pull", "remote": ref})


def _source(settings: HostSettings, prefix: Prefix) -> ImageSource:
    """Return what the inventory says or implies."""
    given: ImageSource | None = getattr(settings, f"{prefix}image_source")
    return given or ("pull" if getattr(settings, f"{prefix}image") else "build")


def remote_name(ref: str, digest: str | None, mirror: str | None) -> str:
    """Return what the engine is asked for. By digest it verifies what it gets."""
    name = f"{repository(ref)}@{digest}" if digest else ref
    if mirror is None or name.startswith(f"{mirror}/"):
        return name
    return f"{mirror}/{canonical(name)}"


def _last(ref: str) -> str:
    """Return ``name:tag`` without registry and folders."""
    return ref.rpartition("/")[2]
