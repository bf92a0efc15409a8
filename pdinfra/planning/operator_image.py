"""The image of openYuanrong's nodes: the vendor's, with the operator's patches and wheels in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

from pdinfra.assets import ON_VENDORS, Assets
from pdinfra.model.image_names import repository
from pdinfra.model.inventory import Host, HostSettings
from pdinfra.model.plan import Image, OperatorFiles
from pdinfra.model.problems import Problem
from pdinfra.operator_files import SCRIPT, OperatorState
from pdinfra.planning.images import LOCAL, built_image, remote_name
from pdinfra.versions import yuanrong as versions
from pdinfra.versions.table import VersionError
from pdinfra.yuanrong import patches, wheels
from pdinfra.yuanrong.patches import Patch
from pdinfra.yuanrong.wheels import Target, WheelFile

DEFINITION = ON_VENDORS
OURS = "openyuanrong"
"""What the names of openYuanrong's own wheels begin with; others are what these need."""


def release_of(service: HostSettings) -> versions.Release:
    """Return the row of the operator's wheels; of the oldest release if they do not tell."""
    version = wheels.version(_ours(service.yuanrong_wheels))
    try:
        return versions.release(version or "")
    except VersionError:
        return versions.releases()[0]


def operator_image(host: Host, assets: Assets, state: OperatorState) -> Image:
    """Return the nodes' image: its name changes with everything that goes into it."""
    settings = host.settings
    base = remote_name(settings.image or "", settings.image_digest, settings.image_mirror)
    listed = patches.manifest(_patches(settings))
    made_from = [
        assets.definitions[DEFINITION],
        base,
        sorted(settings.yuanrong_wheels.items()),
        listed,
        state.scripts,
    ]
    digest = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:12]
    tag = (settings.image or "").removeprefix(repository(settings.image or "")).lstrip(":")
    name = f"{DEFINITION}:{tag or 'latest'}-{digest}"
    folder = settings.yuanrong_wheels_dir
    files = OperatorFiles(
        wheels=tuple(f"{folder}/{wheel}" for wheel in sorted(settings.yuanrong_wheels)),
        patches=tuple(patch.path for patch in settings.yuanrong_patches),
        manifest=listed,
        scripts=settings.yuanrong_scripts_dir or "",
    )
    image = Image(
        ref=f"{LOCAL}/{name}", source="build", definition=DEFINITION, base=base, operator=files
    )
    return built_image(image, settings.image_registry)


def operator_problems(host: Host, state: OperatorState) -> list[Problem]:
    """Return everything that is wrong with what goes into the image. host: one for all."""
    service = host.settings
    found = [("pd_yuanrong_wheels", text) for text in _wheel_problems(service, state)]
    found += [("pd_yuanrong_patches", text) for text in _patch_problems(service, state)]
    found += [("pd_yuanrong_scripts_dir", text) for text in _script_problems(service, state)]
    found += [("pd_image", text) for text in _image_problems(service)]
    return [Problem.of("inventory", thing, text) for thing, text in found]


def _wheel_problems(service: HostSettings, state: OperatorState) -> Iterator[str]:
    """Yield what is wrong with the wheels, by their names, and by what the files are."""
    said = service.yuanrong_wheels
    if service.yuanrong_wheels_dir is None:
        yield "no folder. Fix: set pd_yuanrong_wheels_dir to where your wheels are"
    if state.seen and service.yuanrong_wheels_dir is not None and state.wheels is None:
        yield (
            f"no folder {service.yuanrong_wheels_dir} on this machine. "
            "Fix: put the wheels there, or correct pd_yuanrong_wheels_dir"
        )
    # Where nobody looked, the files are what the inventory says of them.
    there = state.wheels if state.seen and state.wheels is not None else said
    files = [WheelFile(name, sha256) for name, sha256 in there.items()]
    mine = set(_ours(there))
    row = _row(service)
    target = Target(
        python=(row.python if row else None) or "cp311",
        machine=service.yuanrong_machine,
        glibc=(row.glibc if row else None) or (2, 34),
    )
    yield from wheels.problems(
        [file for file in files if file.name in mine],
        release_of(service).wheels,
        target,
        {name: each for name, each in said.items() if name in {*mine, *_ours(said)}},
    )
    others = [file for file in files if file.name not in mine]
    yield from wheels.checksum_problems(
        others, {name: each for name, each in said.items() if name not in _ours(said)}
    )
    version = wheels.version(_ours(said))
    if row is not None and version is not None:
        wrong = versions.datasystem_problem(service.image or "", version)
        if wrong is not None:
            yield wrong


def _patch_problems(service: HostSettings, state: OperatorState) -> Iterator[str]:
    """Yield what is wrong with the patches."""
    yield from patches.problems(_patches(service))
    row = _row(service)
    targets = {patch.target for patch in service.yuanrong_patches}
    if row is not None and row.patch and patches.VLLM_ASCEND not in targets:
        yield (
            f"none for {patches.VLLM_ASCEND}, but {service.connector} comes with the guide's. "
            "Fix: list 0001-implement-... with its sha256"
        )
    names = [patch.file for patch in _patches(service)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{name}: two files of this name. Fix: rename one"
    if not state.seen:
        return
    for patch in service.yuanrong_patches:
        found = state.patches.get(patch.path)
        if found is None:
            yield f"no file {patch.path} on this machine. Fix: put the patch there"
        elif found != patch.sha256:
            yield (
                f"{patch.path} has sha256 {found}, not {patch.sha256}: damaged or another file. "
                "Fix: get it again"
            )


def _script_problems(service: HostSettings, state: OperatorState) -> Iterator[str]:
    """Yield what is wrong with the deployment scripts."""
    where = "upstream's docs/sample_code/llm_on_multiple_machines, all its files"
    if service.yuanrong_scripts_dir is None:
        yield f"missing. Fix: set it to a folder with {where}"
    elif state.seen and not state.script:
        yield f"{service.yuanrong_scripts_dir} has no {SCRIPT}. Fix: put there {where}"


def _image_problems(service: HostSettings) -> Iterator[str]:
    """Yield what is wrong with the image that all is put into."""
    if service.image is None:
        return  # Named with the other problems of images.
    if service.image_source == "load":
        yield (
            "pd_image_source is load, but the nodes' image is built on top of it. Fix: `docker "
            "load` it where it is built, and remove pd_image_source"
        )
    try:
        row = versions.engine(service.image)
    except VersionError as error:
        yield str(error)
        return
    if row.connector != service.connector:
        yield f"vllm-ascend of this version has {row.connector}, not {service.connector}. " + (
            "Fix: use quay.io/ascend/vllm-ascend:v0.10.0rc1-openeuler"
        )


def _row(service: HostSettings) -> versions.Engine | None:
    """Return what the image can do; None where the tables do not know it."""
    try:
        return versions.engine(service.image or "")
    except VersionError:
        return None


def _patches(service: HostSettings) -> list[Patch]:
    """Return the patches as the image's build takes them."""
    return [
        Patch(patch.path.rpartition("/")[2], patch.sha256, patch.target, patch.tool)
        for patch in service.yuanrong_patches
    ]


def _ours(names: Mapping[str, str]) -> list[str]:
    """Return the names of openYuanrong's own wheels."""
    return [name for name in names if name.lower().startswith(OURS)]
