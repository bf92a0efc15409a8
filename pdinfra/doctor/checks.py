"""The checks that make sense on every host. Each is a few lines, and pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pdinfra.model.checks import Check
from pdinfra.model.facts import ContainerFact, HostFacts, ModelFact, PortFact
from pdinfra.model.plan import HostPlan, Model

GIB = 1024**3
BUILD_BYTES = 12 * GIB
"""Building the CPU images: wheels, build stage, image, root filesystem (measured: 9.5 GiB)."""
RUN_BYTES = 2 * GIB
"""Logs and the engines' own caches."""
WIDENED = 2
CLOCK_SECONDS = 30.0

Status = Literal["ok", "warn", "fail"]


def host_checks(plan: HostPlan, facts: HostFacts, clock: float) -> Iterator[Check]:
    """Yield every check of one host, good ones too."""
    yield _docker(plan, facts)
    yield _memory(plan, facts)
    yield from _disk(plan, facts)
    yield _ports(plan, facts)
    yield _clock(plan, facts, clock)
    yield from _images(plan, facts)
    for model in plan.models:
        yield from _model(plan, model, facts.model(model.path))
    yield from _containers(plan, facts)


def _docker(plan: HostPlan, facts: HostFacts) -> Check:
    """The engine answers, or pdinfra can make it answer."""
    docker = facts.docker
    expected = "a Docker engine that answers"
    if docker.state == "running":
        return _check("docker", plan, "ok", f"Docker {docker.version}", expected)
    if docker.state == "denied":
        fix = "set ansible_become: true for this host, or add its user to the group docker"
        return _check("docker", plan, "fail", f"no permission ({docker.detail})", expected, fix)
    fix = "`up` installs and starts it"
    return _check("docker", plan, "warn", f"{docker.state} ({docker.detail})", expected, fix)


def _memory(plan: HostPlan, facts: HostFacts) -> Check:
    """What will be started fits into what is free; running containers have theirs already."""
    running = {c.id for c in facts.containers if c.state == "running"}
    planned = {container.id for container in plan.containers}
    share = len(planned - running) / max(len(planned), 1)
    weights = max((model.weight_bytes for model in facts.models), default=0)
    engines = [c for c in plan.containers if c.kind == "instance" and c.id not in running]
    # A CPU engine holds its weights in host memory, twice the file where it widens them to float32.
    held = WIDENED * weights * len(engines) if plan.accelerator == "cpu" else 0
    need = int(plan.memory * share) + held
    found, expected = _gib(facts.memory_available), f"{_gib(need)} for containers to start"
    if facts.memory_available >= need:
        return _check("memory", plan, "ok", f"{found} free", expected)
    fix = "fewer instances on this host, a smaller pd_kv_cache_gib, or more memory"
    return _check("memory", plan, "fail", f"{found} free", expected, fix)


def _disk(plan: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """Docker's folder has room for what is to be built or pulled, and for logs."""
    missing = [image for image in plan.images if not facts.has_image(image)]
    need = BUILD_BYTES if any(image.source == "build" for image in missing) else RUN_BYTES
    path = next(
        p for p in (facts.docker.root, "/var/lib/docker", "/var/lib", "/") if p in facts.disk_free
    )
    free = facts.disk_free[path]
    found, expected = f"{_gib(free)} free at {path}", f"{_gib(need)}"
    if free >= need:
        yield _check("disk", plan, "ok", found, expected)
        return
    fix = (
        f"free space at {path} (`docker system df` shows Docker's part), or move Docker's data-root"
    )
    yield _check("disk", plan, "fail", found, expected, fix)


def _ports(plan: HostPlan, facts: HostFacts) -> Check:
    """Nobody else listens where our containers will."""
    running = [c for c in facts.containers if c.state in ("running", "restarting")]
    wanted = {port.port: port for port in plan.ports if port.purpose != "internal"}
    clashes = [fact for fact in facts.listening if fact.port in wanted and not _ours(fact, running)]
    if not clashes:
        return _check("ports", plan, "ok", "free", f"{len(wanted)} ports free")
    found = ", ".join(
        f"{c.port} taken by {c.process or 'another process'} (wanted by {wanted[c.port].owner})"
        for c in {clash.port: clash for clash in clashes}.values()
    )
    fix = "stop what listens there, or give the instance another port"
    return _check("ports", plan, "fail", found, f"{len(wanted)} ports free", fix)


def _ours(fact: PortFact, running: Sequence[ContainerFact]) -> bool:
    """Tell whether one of the service's containers listens there: those make room by themselves."""
    if fact.container is not None:
        return any(container.container_id == fact.container for container in running)
    # Its process could not be seen; what our containers were told to listen on is on their argv.
    told = [word for c in running for word in (*c.spec.command, *c.spec.env.values())]
    return str(fact.port) in told


def _clock(plan: HostPlan, facts: HostFacts, clock: float) -> Check:
    """The host's clock agrees with the controller's (an upper bound: the look itself took time)."""
    apart = abs(clock - facts.clock)
    expected = f"within {CLOCK_SECONDS:.0f} s of this machine's"
    if apart <= CLOCK_SECONDS:
        return _check("clock", plan, "ok", f"{apart:.0f} s apart", expected)
    return _check(
        "clock", plan, "warn", f"{apart:.0f} s apart", expected, "run chrony or ntpd there"
    )


def _images(plan: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """The images are there, or `up` gets them."""
    for image in plan.images:
        if facts.has_image(image):
            yield _check("image", plan, "ok", image.ref, image.ref)
        else:
            yield _check(
                "image", plan, "warn", "not on the host", image.ref, f"`up` will {image.source} it"
            )


def _model(plan: HostPlan, model: Model, fact: ModelFact | None) -> Iterator[Check]:
    """The model is there, complete, and can be split as planned."""
    if fact is None:
        return
    expected = f"config.json, weights and a tokenizer in {model.path}"
    if model.source == "tiny" and (fact.error or fact.missing):
        yield _check(
            "model", plan, "warn", "not on the host", expected, "`up` copies the tiny model"
        )
        return
    if fact.error:
        fix = f"put the model there (on {plan.name}), or correct pd_model_path"
        yield _check("model", plan, "fail", f"{model.path}: {fact.error}", expected, fix)
        return
    if fact.missing:
        fix = "complete the download; the files must be in the directory itself"
        yield _check("model", plan, "fail", f"no {', no '.join(fact.missing)}", expected, fix)
        return
    uneven = [n for n in model.tensor_parallel_sizes if not fact.splits_over(n)]
    for size in uneven:
        fix = f"set pd_tensor_parallel_size to a divisor of {fact.heads} that fits the KV heads"
        found = f"{fact.heads} attention heads, {fact.kv_heads} KV heads"
        check = _check(
            "model", plan, "fail", found, f"heads divisible by tensor_parallel_size {size}", fix
        )
        yield check.model_copy(update={"invalid": True})
    if not uneven:
        yield _check(
            "model", plan, "ok", f"{model.path}, {_gib(fact.weight_bytes)} of weights", expected
        )


def _containers(plan: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """What runs is well."""
    for container in facts.containers:
        well = container.state == "running" and container.health in ("healthy", "starting")
        state = f"{container.state}, {container.health}, {container.restarts} restarts"
        found = f"{container.name} is {state}"
        fix = "" if well else f"`pdinfra logs {container.id}` shows why; `up` starts it anew"
        yield _check("container", plan, "ok" if well else "warn", found, "running, healthy", fix)


def _check(
    name: str, plan: HostPlan, status: Status, found: str, expected: str, fix: str = ""
) -> Check:
    """Make a check of one host."""
    return Check(id=name, host=plan.name, status=status, found=found, expected=expected, fix=fix)


def _gib(size: int) -> str:
    """Return bytes as GiB."""
    return f"{size / GIB:.1f} GiB"
