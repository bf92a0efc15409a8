"""The folder that engines share for KV: one and the same on all hosts, or requests get no KV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.plan import Plan
from pdinfra.model.shared_path import ABSENT, SharedProbe, Written

GIB = 1024**3
LEAST_FREE = 10 * GIB
LEAST_SHARE = 0.05
SHOWN = 4

SHARED = Rule(
    id="shared-path",
    what="The folder that engines share for KV is one and the same on all hosts, and writable.",
    expected="every host sees what every other one wrote there",
    fix="mount one NFS, Lustre or CephFS folder there on all hosts with engines",
    source="vLLM's shared-storage connector: KV that is not found is computed again, silently",
)
MOUNT = Rule(
    id="shared-path-mount",
    what="The shared folder is on a file system of its own where there are several machines.",
    expected="a mount that is not the root file system",
    fix="mount the shared file system there, and in /etc/fstab to last",
    source="a mount that is gone leaves an empty folder on the root file system, which fills up",
    severity="warn",
)
SPACE = Rule(
    id="shared-path-space",
    what="The shared folder has room: the connector never cleans up.",
    expected=f"{LEAST_FREE // GIB} GiB and {LEAST_SHARE:.0%} free",
    fix="remove old folders of KV there, or give the file system more room",
    source="vLLM's shared-storage connector writes the KV of every prompt and removes none",
    severity="warn",
)
RULES = (SHARED, MOUNT, SPACE)

Seen = Mapping[str, Mapping[str, str]]
"""By host, and by the host that wrote: empty where it was seen, or in words why not."""


def shared_path_checks(
    plan: Plan, probes: Mapping[str, SharedProbe], written: Mapping[str, Written], seen: Seen
) -> Iterator[Check]:
    """Yield the checks of all hosts that tried.

    written: by host; seen: by host. Who did not answer is a finding of its own.
    """
    mine = {host: written[host] for host in probes if host in written}
    wrote = [host for host, each in mine.items() if not each.error]
    unseen = {
        host: {other: why for other in wrote if (why := seen[host].get(other, ABSENT))}
        for host in wrote
        if host in seen
    }
    lost = _outside(unseen)
    machines = len({plan.host(host).address for host in probes})
    for host, each in mine.items():
        probe = probes[host]
        if each.error:
            yield _unwritten(host, probe, each)
        elif host in lost:
            yield _not_shared(host, probe, unseen[host], len(probes))
        elif host in unseen:
            there = [other for other in wrote if other not in unseen[host]]
            yield SHARED.ok(host, f"{probe.folder}: sees {_listed(there)}")
        if machines > 1 and each.there:
            yield _mount(host, probe, each)
    if wrote:
        yield _space(probes, {host: mine[host] for host in wrote})


def _outside(unseen: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the hosts that are not where most are: those that see what most of them see.

    Of two hosts that do not see each other the first one is right.
    """
    blind = [host for host, missing in unseen.items() if missing]
    count = Counter(frozenset(missing) for missing in unseen.values())
    if not blind:
        return []
    usual = max(count, key=lambda missing: (count[missing], -len(missing)))
    # All of them where the ones that see everything are fewer than those that do not.
    return [host for host in blind if frozenset(unseen[host]) != usual] or blind


def _unwritten(host: str, probe: SharedProbe, each: Written) -> Check:
    """Return why nothing can be written there; pdinfra's own folder is made by `up`."""
    if not each.there and probe.own:
        return SHARED.ok(host, f"{probe.folder}: `up` makes it")
    if not each.there:
        return SHARED.bad(host, f"{probe.folder}: {ABSENT}", fix=f"mount it at {probe.folder}")
    found = f"{probe.folder}: user {probe.uid}, as engines are, cannot write: {each.error}"
    fix = f"`chown {probe.uid} {probe.folder}` where it comes from; NFS: check root_squash and rw"
    return SHARED.bad(host, found, fix=fix)


def _not_shared(host: str, probe: SharedProbe, missing: Mapping[str, str], hosts: int) -> Check:
    """Return whose files a host does not see."""
    said = ", ".join(dict.fromkeys(why for why in missing.values() if why != ABSENT))
    cause = said or "it is not the same folder"
    found = f"{probe.folder}: does not see what {_listed([*missing])} wrote there: {cause}"
    which = "both" if hosts == 2 else "all hosts"
    fix = f"mount one NFS, Lustre or CephFS folder at {probe.folder} on {which}"
    return SHARED.bad(host, found, fix=fix)


def _mount(host: str, probe: SharedProbe, each: Written) -> Check:
    """Judge where the folder lies; who proved it shared may still lose it with a mount."""
    if each.mount == "/":
        return MOUNT.bad(host, f"{probe.folder} is on the root file system")
    return MOUNT.ok(host, f"{each.kind} at {each.mount}")


def _space(probes: Mapping[str, SharedProbe], written: Mapping[str, Written]) -> Check:
    """Judge the free space once: it is one folder, so the host that sees least of it tells."""
    host = min(written, key=lambda name: written[name].free)
    each = written[host]
    share = each.free / each.size if each.size else 0.0
    found = f"{probes[host].folder}: {each.free / GIB:.1f} GiB free ({share:.0%})"
    if each.free < LEAST_FREE or share < LEAST_SHARE:
        return SPACE.bad(host, found)
    return SPACE.ok(host, found)


def _listed(hosts: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(hosts) - SHOWN} more" if len(hosts) > SHOWN else ""
    return ", ".join(hosts[:SHOWN]) + more
