"""Which Ray and which vLLM are in the engines' image, and pairs of them that do not go together."""

from __future__ import annotations

from collections.abc import Iterator

from pdinfra.model.inventory import Accelerator, HostSettings, Inventory
from pdinfra.model.problems import Problem
from pdinfra.stacks import kv_transfer
from pdinfra.versions import ray as versions
from pdinfra.versions.order import order
from pdinfra.versions.table import VersionError


def ray_version(service: HostSettings) -> str | None:
    """Return the version of Ray in the engines' image; None if nothing tells it."""
    if service.ray_version is not None:
        return service.ray_version
    return versions.versions_in(service.image)[0] if service.image else versions.BUILT


def version_problems(inventory: Inventory) -> Iterator[Problem]:
    """Yield what is wrong with the versions in the image, which is the same on all hosts."""
    service, name = inventory.service, inventory.hosts[0].name
    thing = f"pd_image {service.image or 'that pdinfra builds'}"
    found, told = ray_version(service), kv_transfer.version_told(service)
    if service.ray_version and (problem := _told_twice(service, name)):
        yield problem
    elif found is None and _must_be_told(service):
        cause = "nothing tells which Ray is in it, and not every Ray goes with every vLLM"
        fix = "set pd_ray_version to what `ray --version` in it says"
        yield Problem(host=name, thing=thing, cause=cause, fix=fix)
    elif found is not None and (gap := _gap(service, found, told)):
        yield Problem.of(name, thing, gap)


def _told_twice(service: HostSettings, host: str) -> Problem | None:
    """Return that the image's name tells another Ray than the inventory; None if it does not."""
    given = service.ray_version or ""
    told = versions.versions_in(service.image)[0] if service.image else versions.BUILT
    if told is None or order(told) == order(given):
        return None
    return Problem(
        host=host,
        thing=f"pd_ray_version {given}",
        cause=f"Ray {told} is in the image: {service.image or 'pdinfra builds it'}",
        fix="remove pd_ray_version, or name the other image",
    )


def _must_be_told(service: HostSettings) -> bool:
    """Tell whether an image is not known to have a Ray that goes with its vLLM.

    The executor's images are vLLM's own, with the Ray that vLLM asks for, as long as it asked for
    one; those of vllm-ascend are in no table.
    """
    if service.ray_mode == "serve" or service.accelerator == "ascend":
        return True
    try:
        return not versions.brings_ray(kv_transfer.version_of(service))
    except VersionError:
        return True


def _gap(service: HostSettings, ray: str, vllm: str | None) -> str | None:
    """Return why Ray and vLLM do not go together, with the fix; None if they do.

    vllm None: nothing tells it, as for rayproject/ray-llm, whose vLLM is Ray's choice. Then Ray
    alone is looked at.
    """
    accelerator: Accelerator = service.accelerator
    try:
        if service.ray_mode == "serve":
            newest = vllm or versions.vllm_of(ray, accelerator)[0]
            return versions.serve_gap(ray, newest, accelerator)
        return versions.executor_gap(ray, vllm) if vllm else None
    except VersionError as error:
        return str(error)
