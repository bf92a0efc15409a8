"""What must be the same on all hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import HostPlan, Plan

CLOCK_SECONDS = 10.0
"""Far more than asking takes, far less than what breaks leases and makes logs hard to compare."""

CLOCK = Rule(
    id="clock",
    what="The hosts' clocks agree with each other (and with this machine's).",
    expected=f"within {CLOCK_SECONDS:.0f} s of the others",
    fix="run chrony there (pd_manage_time: true lets `up` install it), or mend its configuration",
    source="HCCL's diagnosis compares times of hosts; leases of etcd and of KV are lost",
    severity="warn",
)
DOCKER_SAME = Rule(
    id="docker-same",
    what="The hosts run the same major version of Docker.",
    expected="one major version on all hosts",
    fix="upgrade Docker on the older hosts, one at a time",
    source="Docker's release notes: defaults differ between major versions",
    severity="warn",
)
IMAGE_SAME = Rule(
    id="image-same",
    what="An image has the same content on all hosts, not only the same tag.",
    expected="the same image id as on the other hosts",
    fix="remove the image there and run `up`; pd_image_digest pins what a tag means",
    source=(
        "vLLM's NixlConnector compares versions at the handshake and refuses other builds; a node "
        "with another Ray or Python is refused by Ray's head"
    ),
)
MODEL_FILES = Rule(
    id="model-files",
    what="The model has the same files, of the same sizes, on all hosts.",
    expected="the same files as on the other hosts",
    fix="copy the model anew from a host that has it right",
    source="prefill and decode must compute the same model, or the answer is garbage",
)

RULES: tuple[Rule, ...] = (CLOCK, DOCKER_SAME, IMAGE_SAME, MODEL_FILES)

Value = TypeVar("Value", bound=Hashable)


def fleet_checks(plan: Plan, facts: Mapping[str, HostFacts], clock: float) -> Iterator[Check]:
    """Yield what comparing the hosts shows. clock: the controller's, when facts do not have it."""
    hosts = [host for host in plan.active if host.name in facts]
    yield from _clocks(hosts, facts, clock)
    # Hosts of one address are one machine: it is the same as itself.
    machines = list({host.address: host for host in reversed(hosts)}.values())[::-1]
    if len(machines) < 2:
        return
    yield from _docker(machines, facts)
    yield from _images(machines, facts)
    yield from _models(machines, facts)


def most_common(values: Sequence[Value]) -> Value:
    """Return the value that most hosts have; of equally common ones the first."""
    return Counter(values).most_common(1)[0][0]


def _clocks(
    hosts: Sequence[HostPlan], facts: Mapping[str, HostFacts], clock: float
) -> Iterator[Check]:
    """Compare every clock with the one in the middle, this machine's among them."""
    apart = {host.name: _apart(facts[host.name], clock) for host in hosts}
    # The middle one, and this machine's (0) if two are in the middle: one host is compared with it.
    ordered = sorted([0.0, *apart.values()])
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    middle = min(max(0.0, low), high)
    for host, seconds in apart.items():
        off = abs(seconds - middle)
        found = f"{off:.0f} s apart"
        yield CLOCK.ok(host, found) if off <= CLOCK_SECONDS else CLOCK.bad(host, found)


def _apart(facts: HostFacts, clock: float) -> float:
    """Return the seconds that a clock is off for certain, whatever time the answer took.

    It was read between asking and comparing, so a right clock shows a time between these two.
    """
    late, early = facts.clock - clock, facts.clock - (facts.asked_at or clock)
    return min(max(0.0, late), early)


def _docker(hosts: Sequence[HostPlan], facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Compare major versions."""
    versions = {
        host.name: facts[host.name].docker.version
        for host in hosts
        if facts[host.name].docker.state == "running"
    }
    if not versions:
        return
    usual = most_common([version.partition(".")[0] for version in versions.values()])
    for name, version in versions.items():
        if version.partition(".")[0] == usual:
            yield DOCKER_SAME.ok(name, version)
        else:
            yield DOCKER_SAME.bad(name, version, expected=f"{usual}, as on most hosts")


def _images(hosts: Sequence[HostPlan], facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Compare the ids of images that came from elsewhere; each host's own builds differ."""
    brought = dict.fromkeys(
        image.ref for host in hosts for image in host.images if image.source != "build"
    )
    for ref in brought:
        ids = {
            host.name: image_id
            for host in hosts
            if any(image.ref == ref for image in host.images)
            and (image_id := facts[host.name].image_id(ref))
        }
        if len(ids) < 2:
            continue
        usual = most_common(list(ids.values()))
        for name, image_id in ids.items():
            found = f"{ref} is {_short(image_id)}"
            if image_id == usual:
                yield IMAGE_SAME.ok(name, found)
                continue
            yield IMAGE_SAME.bad(
                name,
                found,
                expected=f"{_short(usual)}, as on {_having(ids, usual)}",
                fix=f"`docker image rm -f {ref}` on {name}, then `up`; pd_image_digest pins it",
            )


def _models(hosts: Sequence[HostPlan], facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Compare names and sizes of the model's files."""
    files = {
        host.name: fact.files
        for host in hosts
        for fact in facts[host.name].models[:1]
        if not fact.error and not fact.missing
    }
    if len(files) < 2:
        return
    usual = dict(most_common([tuple(sorted(mine.items())) for mine in files.values()]))
    for name, mine in files.items():
        wrong = sorted(n for n in {*usual, *mine} if usual.get(n) != mine.get(n))
        if not wrong:
            yield MODEL_FILES.ok(name, f"{len(mine)} files")
            continue
        found = ", ".join(f"{n}: {_bytes(mine.get(n))}" for n in wrong)
        expected = ", ".join(f"{n}: {_bytes(usual.get(n))}" for n in wrong)
        yield MODEL_FILES.bad(name, found, expected=f"{expected}, as on the other hosts")


def _having(ids: Mapping[str, str], image_id: str) -> str:
    """Return the hosts that have an image; of many the first few."""
    names = [name for name, mine in ids.items() if mine == image_id]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _short(image_id: str) -> str:
    """Return an image id as Docker shows it."""
    return image_id.removeprefix("sha256:")[:12]


def _bytes(size: int | None) -> str:
    """Return a file's size, or that there is no such file."""
    return "not there" if size is None else f"{size} bytes"
