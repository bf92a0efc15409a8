"""What the probes found: connections that the service needs, and the model's checksums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pdinfra.doctor.fleet import most_common
from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from pdinfra.model.reach import Link

REACH_API = Rule(
    id="reach-api",
    what="The router reaches the API port of every engine.",
    expected="a connection",
    fix="let the router's host through to these ports",
    source="the plan; tried with a listener on ports that are still free",
)
REACH_KV = Rule(
    id="reach-kv",
    what="Every decode host reaches the KV side channel of every prefill engine.",
    expected="a connection",
    fix="let the decode host through to these ports",
    source="vLLM's NixlConnector: decode asks prefill for its KV; health does not show it",
)
REACH_ETCD = Rule(
    id="reach-etcd",
    what="Every worker of the data system, and every etcd member, reaches every etcd member.",
    expected="a connection",
    fix="let the host through to these ports",
    source="the plan; a worker that has lost etcd goes on calling itself healthy",
)
REACH_PARTS = Rule(
    id="reach-parts",
    what="The further hosts of an instance reach the port on its first one by which it starts.",
    expected="a connection",
    fix="let the host through; these hosts also talk on ports that the kernel gives out",
    source="measured: an engine over several hosts waits there for its parts without a word",
)
REACH_DATA = Rule(
    id="reach-data",
    what="Every worker of the data system reaches every other one.",
    expected="a connection",
    fix="let the host through to these ports",
    source="measured: without it every key of the other host is `not found`, nothing else shows it",
)
REACH_FUNCTIONS = Rule(
    id="reach-functions",
    what="Every node of openYuanrong's full mode reaches the function system of every other one.",
    expected="a connection",
    fix="let the host through to these ports",
    source="the plan; an agent that does not reach its master calls itself healthy all the same",
)
REACH_RAY = Rule(
    id="reach-ray",
    what="Every node of a Ray cluster reaches the head, and all others.",
    expected="a connection",
    fix="let the cluster's hosts through to these ports, and nobody else: Ray asks for no password",
    source="Ray docs, configure ports: a node that is not reached is taken out of the cluster",
)
MODEL_CHECKSUM = Rule(
    id="model-checksum",
    what="The model's files have the same content on all hosts (SHA-256; `doctor` only).",
    expected="the same content as on the other hosts",
    fix="copy the file anew from a host that has it right",
    source="a download cut off and filled up, or another revision, has the same size",
)

BY_PURPOSE = {
    "api": REACH_API,
    "parts": REACH_PARTS,
    "kv": REACH_KV,
    "etcd": REACH_ETCD,
    "data": REACH_DATA,
    "functions": REACH_FUNCTIONS,
    "ray": REACH_RAY,
}
RULES: tuple[Rule, ...] = (*BY_PURPOSE.values(), MODEL_CHECKSUM)

Connects = Mapping[str, Mapping[str, str]]
"""By source host and ``address:port``: ``open``, or in words why not."""


def reach_checks(
    plan: Plan,
    links: Sequence[Link],
    connects: Connects,
    shut: Connects,
    facts: Mapping[str, HostFacts],
) -> Iterator[Check]:
    """Yield one check for each pair of hosts and purpose.

    shut: by target host and ``address:port``, why nothing could be opened there for the probe.
    """
    pairs: dict[tuple[str, str, str], list[Link]] = {}
    for link in links:
        pairs.setdefault((link.source, link.target, link.purpose), []).append(link)
    addresses = {host.name: host.address for host in plan.hosts}
    for (source, target, purpose), mine in pairs.items():
        if source not in connects or target not in facts:
            # A host that cannot be looked at is a finding of its own.
            continue
        rule, pair = BY_PURPOSE[purpose], f"{source} → {target}"
        # What could not be opened for the probe says nothing about a firewall.
        tried = [link for link in mine if link.endpoint not in shut.get(target, {})]
        if not tried:
            continue
        bad = [link for link in tried if connects[source].get(link.endpoint) != "open"]
        expected = f"connections to {_ports(tried)} of {addresses[target]}"
        if not bad:
            yield rule.ok(pair, f"{len(tried)} open", expected=expected)
            continue
        found = ", ".join(
            f"{link.port} ({link.owner}) {connects[source].get(link.endpoint, 'not tried')}"
            for link in bad
        )
        fix = f"on {target}: {_opening(facts[target], addresses[source], bad)}"
        yield rule.bad(pair, found, expected=expected, fix=fix)


def checksum_checks(digests: Mapping[str, Mapping[str, str]]) -> Iterator[Check]:
    """Compare the files' digests, by host and file name; hosts without any are left out."""
    read = {host: files for host, files in digests.items() if files}
    if len(read) < 2:
        return
    names = sorted({name for files in read.values() for name in files})
    usual = {
        name: most_common([files[name] for files in read.values() if name in files])
        for name in names
    }
    for host, files in read.items():
        wrong = [name for name, digest in files.items() if digest != usual[name]]
        if not wrong:
            yield MODEL_CHECKSUM.ok(host, f"{len(files)} files")
            continue
        alike = next(h for h, f in read.items() if f.get(wrong[0]) == usual[wrong[0]])
        yield MODEL_CHECKSUM.bad(
            host,
            ", ".join(f"{name} is {files[name][:12]}" for name in wrong),
            expected=", ".join(f"{name} is {usual[name][:12]}" for name in wrong)
            + f", as on {alike}",
            fix=f"copy {', '.join(wrong)} anew from {alike} to {host}",
        )


def _ports(links: Sequence[Link]) -> str:
    """Return ports as one list."""
    return ",".join(str(port) for port in sorted({link.port for link in links}))


def _opening(facts: HostFacts, source: str, links: Sequence[Link]) -> str:
    """Return the command that lets a source through, for the firewall that the host has."""
    ports = _ports(links)
    if "firewalld" in facts.network.daemons:
        rule = f"rule family=ipv4 source address={source} port port=PORT protocol=tcp accept"
        return f"`firewall-cmd --permanent --add-rich-rule='{rule}'` for {ports}, then --reload"
    if facts.network.ufw:
        return f"`ufw allow from {source} to any port {ports} proto tcp`"
    rule = f"iptables -I INPUT -p tcp -s {source} -m multiport --dports {ports} -j ACCEPT"
    return f"`{rule}`, and whatever filters between the hosts"
