"""The checks that make sense on one host alone. Each is a few lines, and pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.facts import ContainerFact, HostFacts, PortFact
from pdinfra.model.plan import COMPUTES, HostPlan, Model

GIB = 1024**3
BUILD_BYTES = 12 * GIB
"""Building the CPU images: wheels, build stage, image, root filesystem (measured: 9.5 GiB)."""
RUN_BYTES = 2 * GIB
"""Logs and the engines' own caches."""
INODES = 100_000
"""An engine image has 61,000 files (measured: vLLM 0.32 on CPU)."""
SHM_BYTES = GIB
WIDENED = 2
DOCKER_HOMES = ("/var/lib/docker", "/var/lib", "/")

DOCKER = Rule(
    id="docker",
    what="A Docker engine answers, or `up` can make one answer.",
    expected="a Docker engine that answers",
    fix="set ansible_become: true for this host, or add its user to the group docker",
    source="Docker's documentation: the socket belongs to root and the group docker",
)
MEMORY = Rule(
    id="memory",
    what="What is to be started fits into the memory that is free.",
    expected="as much free as the containers to start will use",
    fix="fewer instances on this host, a smaller pd_kv_cache_gib, or more memory",
    source="measured: vLLM 0.32 on CPU uses 1.1 GiB besides KV cache and weights",
)
DISK = Rule(
    id="disk",
    what="Docker's folder has room for what is to be built or pulled, and for logs.",
    expected="12.0 GiB to build images, 2.0 GiB to run them",
    fix="free space there (`docker system df` shows Docker's part), or move Docker's data-root",
    source="measured: building the CPU images takes 9.5 GiB",
)
INODE = Rule(
    id="inodes",
    what="Docker's file system can hold the files of the images.",
    expected=f"{INODES} free inodes",
    fix="remove images that nobody uses (`docker image prune`), or move Docker's data-root",
    source="measured: an engine image has 61,000 files",
)
SHARED_MEMORY = Rule(
    id="shm",
    what="The engines' /dev/shm is large enough for vLLM, and no larger than the host's memory.",
    expected="between 1.0 GiB and the host's memory",
    fix="set pd_shm_gib; remove it for the default",
    source="vllm-ascend PR #3519, gpustack #5014: Docker's 64 MiB end in a core dump",
)
PORTS = Rule(
    id="ports",
    what="Nobody else listens where the containers will.",
    expected="planned ports free",
    fix="stop what listens there, or give the instance another port",
    source="vllm-ascend #8938, PR #6455: `Address already in use`",
)
PORT_RANGE = Rule(
    id="port-range",
    what="No outgoing connection can take a planned port before its container does.",
    expected="planned ports outside of the kernel's range for outgoing connections, or reserved",
    fix="reserve them in net.ipv4.ip_local_reserved_ports (`up` does, with pd_manage_ports)",
    source="Linux, ip-sysctl: ip_local_reserved_ports; vllm-ascend #16237: bind race on restart",
    severity="warn",
)
IMAGE = Rule(
    id="image",
    what="The images are on the host with the digest asked for, or `up` can get them.",
    expected="the image, or its archive where it is to be loaded from",
    fix="copy the archive there, or correct pd_image_archive",
    source="the plan",
)
MODEL = Rule(
    id="model",
    what="The model is on the host, complete, and can be split as planned.",
    expected="config.json, weights and a tokenizer",
    fix="complete the download; the files must be in the directory itself",
    source="vLLM's loader ends at what is missing, minutes after its start",
)
CONTAINER = Rule(
    id="container",
    what="The service's containers that are there run and are healthy.",
    expected="running, healthy",
    fix="`pdinfra logs` shows why; `up` starts it anew",
    source="Docker's health status",
    severity="warn",
)

RULES: tuple[Rule, ...] = (
    DOCKER,
    MEMORY,
    DISK,
    INODE,
    SHARED_MEMORY,
    PORTS,
    PORT_RANGE,
    IMAGE,
    MODEL,
    CONTAINER,
)


def host_checks(plan: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """Yield every check of one host, good ones too."""
    yield _docker(plan, facts)
    yield _memory(plan, facts)
    yield _disk(plan, facts)
    yield from _inodes(plan, facts)
    yield from _shared_memory(plan, facts)
    yield _ports(plan, facts)
    yield _port_range(plan, facts)
    yield from _images(plan, facts)
    for model in plan.models:
        yield from _model(plan, model, facts)
    yield from _containers(plan, facts)


def _docker(plan: HostPlan, facts: HostFacts) -> Check:
    """The engine answers, or pdinfra can make it answer."""
    docker = facts.docker
    if docker.state == "running":
        return DOCKER.ok(plan.name, f"Docker {docker.version}")
    if docker.state == "denied":
        return DOCKER.bad(plan.name, f"no permission ({docker.detail})")
    found = f"{docker.state} ({docker.detail})"
    if docker.state == "absent":
        return DOCKER.ok(plan.name, f"{found}: `up` installs and starts it")
    if not docker.at_boot:
        return DOCKER.ok(plan.name, f"{found}: `up` starts it")
    fix = "`up` starts it; `journalctl -u docker` says why it stopped"
    return DOCKER.bad(plan.name, found, fix=fix, severity="warn")


def _memory(plan: HostPlan, facts: HostFacts) -> Check:
    """What will be started fits into what is free; running containers have theirs already."""
    running = {c.id for c in facts.containers if c.state == "running"}
    planned = {container.id for container in plan.containers}
    share = len(planned - running) / max(len(planned), 1)
    weights = max((model.weight_bytes for model in facts.models), default=0)
    engines = [c for c in plan.containers if c.kind in COMPUTES and c.id not in running]
    # A CPU engine holds its weights in host memory, twice the file where it widens them to float32.
    held = WIDENED * weights * len(engines) if plan.accelerator == "cpu" else 0
    need = int(plan.memory * share) + held
    found, expected = (
        f"{_gib(facts.memory_available)} free",
        f"{_gib(need)} for containers to start",
    )
    if facts.memory_available >= need:
        return MEMORY.ok(plan.name, found, expected=expected)
    return MEMORY.bad(plan.name, found, expected=expected)


def _disk(plan: HostPlan, facts: HostFacts) -> Check:
    """Docker's folder has room for what is to be built or pulled, and for logs."""
    missing = [image for image in plan.images if not facts.has_image(image)]
    need = BUILD_BYTES if any(image.source == "build" for image in missing) else RUN_BYTES
    path = next(p for p in (facts.docker.root, *DOCKER_HOMES) if p in facts.disk_free)
    free = facts.disk_free[path]
    found = f"{_gib(free)} free at {path}"
    if free >= need:
        return DISK.ok(plan.name, found, expected=_gib(need))
    return DISK.bad(plan.name, found, expected=_gib(need))


def _inodes(plan: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """As the room on the disk; some file systems have no such limit."""
    path = next((p for p in (facts.docker.root, *DOCKER_HOMES) if p in facts.inodes_free), None)
    if path is None:
        return
    free = facts.inodes_free[path]
    found = f"{free} free at {path}"
    yield INODE.ok(plan.name, found) if free >= INODES else INODE.bad(plan.name, found)


def _shared_memory(plan: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """What the engines are to get, and what those that run have."""
    sizes = {c.id: c.spec.shm_size for c in plan.containers if c.kind in COMPUTES}
    if not sizes:
        return
    wrong = {
        name: size for name, size in sizes.items() if not SHM_BYTES <= size <= facts.memory_total
    }
    expected = f"{_gib(SHM_BYTES)} to {_gib(facts.memory_total)}"
    if wrong:
        found = ", ".join(f"{name}: {_gib(size)}" for name, size in wrong.items())
        check = SHARED_MEMORY.bad(plan.name, found, expected=expected)
        yield check.model_copy(update={"invalid": True})
        return
    found = ", ".join(sorted({_gib(size) for size in sizes.values()}))
    yield SHARED_MEMORY.ok(plan.name, found, expected=expected)


def _ports(plan: HostPlan, facts: HostFacts) -> Check:
    """Nobody else listens where our containers will."""
    running = [c for c in facts.containers if c.state in ("running", "restarting")]
    wanted = {port.port: port for port in plan.ports if port.purpose != "internal"}
    clashes = [fact for fact in facts.listening if fact.port in wanted and not _ours(fact, running)]
    expected = f"{len(wanted)} ports free"
    if not clashes:
        return PORTS.ok(plan.name, "free", expected=expected)
    found = ", ".join(
        f"{c.port} taken by {c.process or 'another process'} (wanted by {wanted[c.port].owner})"
        for c in {clash.port: clash for clash in clashes}.values()
    )
    return PORTS.bad(plan.name, found, expected=expected)


def _ours(fact: PortFact, running: Sequence[ContainerFact]) -> bool:
    """Tell whether one of the service's containers listens there: those make room by themselves."""
    if fact.container is not None:
        return any(container.container_id == fact.container for container in running)
    # Its process could not be seen; what our containers were told to listen on is on their argv.
    told = [word for c in running for word in (*c.spec.command, *c.spec.env.values())]
    return str(fact.port) in told


def _port_range(plan: HostPlan, facts: HostFacts) -> Check:
    """Planned ports are not in the kernel's lottery."""
    first, last = facts.network.ephemeral
    inside = [port for port in plan.ports if first <= port.port <= last]
    open_ = [port for port in inside if port.port not in facts.network.reserved]
    if not open_:
        found = f"{len(inside)} reserved" if inside else f"none inside {first}-{last}"
        return PORT_RANGE.ok(plan.name, found)
    if plan.basics is not None and plan.basics.ports:
        return PORT_RANGE.ok(plan.name, f"{len(open_)} to reserve: `up` does")
    named = ", ".join(f"{port.port} ({port.owner})" for port in open_)
    return PORT_RANGE.bad(plan.name, f"{named} inside {first}-{last}, not reserved")


def _images(plan: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """The images are there, or `up` gets them."""
    for image in plan.images:
        if facts.has_image(image):
            yield IMAGE.ok(plan.name, image.ref, expected=image.ref)
        elif image.archive is not None and image.archive not in facts.files:
            found = f"neither {image.ref} nor its archive {image.archive}"
            yield IMAGE.bad(plan.name, found, expected=image.ref)
        else:
            yield IMAGE.ok(plan.name, f"not there yet: `up` {image.source}s it", expected=image.ref)


def _model(plan: HostPlan, model: Model, facts: HostFacts) -> Iterator[Check]:
    """The model is there, complete, and can be split as planned."""
    fact = facts.model(model.path)
    if fact is None:
        return
    expected = f"{MODEL.expected} in {model.path}"
    if gap := facts.model_gap(model):
        yield MODEL.ok(plan.name, f"{gap}: `up` will {model.delivery}", expected=expected)
        return
    if fact.error:
        fix = f"put the model there (on {plan.name}), or correct pd_model_path"
        yield MODEL.bad(plan.name, f"{model.path}: {fact.error}", expected=expected, fix=fix)
        return
    if fact.missing:
        yield MODEL.bad(plan.name, f"no {', no '.join(fact.missing)}", expected=expected)
        return
    uneven = [n for n in model.tensor_parallel_sizes if not fact.splits_over(n)]
    for size in uneven:
        check = MODEL.bad(
            plan.name,
            f"{fact.heads} attention heads, {fact.kv_heads} KV heads",
            expected=f"heads divisible by tensor_parallel_size {size}",
            fix=f"set pd_tensor_parallel_size to a divisor of {fact.heads} that fits the KV heads",
        )
        yield check.model_copy(update={"invalid": True})
    if not uneven:
        found = f"{model.path}, {_gib(fact.weight_bytes)} of weights"
        yield MODEL.ok(plan.name, found, expected=expected)


def _containers(plan: HostPlan, facts: HostFacts) -> Iterator[Check]:
    """What runs is well."""
    for container in facts.containers:
        state = f"{container.state}, {container.health}, {container.restarts} restarts"
        found = f"{container.name} is {state}"
        if container.state == "running" and container.health in ("healthy", "starting"):
            yield CONTAINER.ok(plan.name, found)
            continue
        fix = f"`pdinfra logs {container.id}` shows why; `up` starts it anew"
        yield CONTAINER.bad(plan.name, found, fix=fix)


def _gib(size: int) -> str:
    """Return bytes as GiB."""
    return f"{size / GIB:.1f} GiB"
