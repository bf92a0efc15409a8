"""openYuanrong's data system, as far as one look at each host tells; `verify` tries it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pdinfra.doctor.rules import Rule
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Cluster, HostPlan, Plan, Worker

CERTIFICATE = Rule(
    id="certificate",
    what="Hosts with etcd or a worker have a certificate of the service's authority.",
    expected="valid for 30 days or more, for the host's address",
    fix="`up` makes it anew",
    source="etcd's TLS: an outdated certificate stops every worker at once",
    severity="warn",
)
WEIGHTS_FIT = Rule(
    id="datasystem-weights",
    what="The model's weights fit into the data system where engines load them from there.",
    expected="room for all weights",
    fix="raise pd_datasystem_gib on this host, or set load_format to auto",
    source="measured: a full data system takes no more weights, every instance reads its disk",
    severity="warn",
)
AGENTS = Rule(
    id="yuanrong-agents",
    what="openYuanrong's master counts every node of the plan (full mode only).",
    expected="as many agents as planned nodes",
    fix="`pdinfra logs` of the nodes shows who is missing; `up` mends it",
    source="an agent with a wrong master calls itself healthy, only the count shows it",
    severity="warn",
)
RULES: tuple[Rule, ...] = (CERTIFICATE, WEIGHTS_FIT, AGENTS)


def store_checks(plan: Plan, facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Yield the checks of all observed hosts that have a part of the data system."""
    if plan.store is None:
        return
    workers = {worker.host: worker for worker in plan.store.workers}
    for host in plan.active:
        if host.name not in facts:
            continue
        yield from _certificate(host, plan.store.authority, facts[host.name])
        if plan.cluster and host.name == plan.cluster.master.host:
            yield from _agents(plan.cluster, facts[host.name])
        if host.name in workers:
            yield from _weights(plan, workers[host.name], facts[host.name])


def _certificate(host: HostPlan, authority: str, facts: HostFacts) -> Iterator[Check]:
    """Judge a certificate that is there; one that is missing is simply made."""
    if host.identity is None or f"{host.identity.folder}/node.crt" not in facts.certificates:
        return
    if gap := facts.certificate_gap(host.identity, authority):
        yield CERTIFICATE.bad(host.name, gap)
        return
    ends = facts.certificates[f"{host.identity.folder}/node.crt"].expires
    yield CERTIFICATE.ok(host.name, f"valid for {int(ends - facts.clock) // 86400} days")


def _agents(cluster: Cluster, facts: HostFacts) -> Iterator[Check]:
    """Compare the count that the master's supervisor noted last, if it runs."""
    if facts.age(cluster.master.id) is None:
        return
    counted, expected = facts.notes.get(cluster.agents, "no number"), str(len(cluster.nodes))
    if counted == expected:
        yield AGENTS.ok(facts.host, counted, expected=expected)
    else:
        yield AGENTS.bad(facts.host, counted, expected=expected)


def _weights(plan: Plan, worker: Worker, facts: HostFacts) -> Iterator[Check]:
    """Compare the worker's memory with the weights that an instance of its host publishes."""
    mine = [i for i in plan.instances if i.host == worker.host and i.load_format == "yuanrong"]
    weights = max((model.weight_bytes for model in facts.models), default=0)
    if not mine or not weights:
        return
    found = f"{_gib(weights)} of weights, {_gib(worker.data_bytes)} in the worker"
    if weights < worker.data_bytes:
        yield WEIGHTS_FIT.ok(worker.host, found)
    else:
        yield WEIGHTS_FIT.bad(worker.host, found)


def _gib(size: int) -> str:
    """Return a size for people."""
    return f"{size / 1024**3:.1f} GiB"
