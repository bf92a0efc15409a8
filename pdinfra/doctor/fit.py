"""Whether weights and KV fit into the cards of an engine, or on CPU into its memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pdinfra.doctor.estimate import (
    CARD_BYTES,
    GIB,
    Demand,
    Split,
    demand,
    fitting_tokens,
    not_known,
)
from pdinfra.doctor.rules import Rule
from pdinfra.doctor.told import VLLM_SHARE, memory_share
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import ContainerSpec, HostPlan, Instance, Plan

CPU_BYTES = int(1.1 * GIB)
"""An engine on CPU besides KV and weights (measured, vLLM 0.32)."""
MIB = 1024**2

FIT = Rule(
    id="model-fits",
    what="Weights fit into the memory of the cards, and KV of one longest request beside them.",
    expected="weights, KV of one request of max_model_len tokens and 2.0 GiB (docs/fit.md)",
    fix="split the model over more cards, or set a smaller pd_max_model_len",
    source="vLLM ends minutes after its start: no memory for cache blocks, max seq len too large",
)
RULES: tuple[Rule, ...] = (FIT,)


@dataclass(frozen=True)
class _Place:
    """What of an instance is on one host: its container there, ``ranks`` of its workers.

    ``told`` is the container whose command line counts: the first host's. ``cards`` has the bytes
    of memory of each card that tells, by the card's id.
    """

    instance: Instance
    host: HostPlan
    spec: ContainerSpec
    told: ContainerSpec
    ranks: int
    cards: Mapping[int, int]

    @property
    def split(self) -> Split:
        """Over how many cards the instance is split, on all of its hosts."""
        return Split(self.instance.tensor_parallel_size, self.instance.pipeline_parallel_size)


def fit_checks(plan: Plan, facts: Mapping[str, HostFacts]) -> Iterator[Check]:
    """Yield the checks of all instances on all observed hosts that have the model, good ones too.

    A model that `up` is yet to bring has no sizes: its engines are checked with the next run.
    """
    for place in _places(plan, facts):
        model = facts[place.host.name].whole_model(place.host.models)
        if model is None:
            continue
        name = place.instance.id
        if option := not_known(model, place.told):
            yield FIT.ok(place.host.name, f"{name}: not estimated, because of {option}")
        elif place.host.accelerator == "cpu":
            yield _on_cpu(place, demand(model, place.told))
        elif place.cards:
            yield _on_cards(place, demand(model, place.told))


def _places(plan: Plan, facts: Mapping[str, HostFacts]) -> Iterator[_Place]:
    """Yield what of each instance is on observed hosts."""
    hosts = {host.name: host for host in plan.hosts}
    specs = {container.id: container.spec for host in plan.hosts for container in host.containers}
    replicas = plan.ray.replicas if plan.ray else ()
    words = {replica.id: replica.told for replica in replicas}
    # Ray Serve's replicas are in the hosts' nodes; all others are containers of their own.
    nodes = {node.host: node.id for node in plan.ray.nodes} if plan.ray and replicas else {}
    for instance in plan.engines:
        ranks = instance.ranks // len(instance.places)
        told = specs[nodes.get(instance.host, instance.id)]
        if instance.id in words:
            told = told.model_copy(update={"command": words[instance.id]})
        for host, name, devices in instance.places:
            if host in facts:
                cards = _cards(facts[host], devices)
                spec = specs[nodes.get(host, name)]
                yield _Place(instance, hosts[host], spec, told, ranks, cards)


def _cards(facts: HostFacts, devices: tuple[int, ...]) -> dict[int, int]:
    """Return the bytes of memory of those of the devices that tell."""
    found = {gpu.index: gpu.memory_total for gpu in (facts.nvidia.gpus if facts.nvidia else ())}
    npus = facts.ascend.npus if facts.ascend else ()
    found |= {npu.device: npu.hbm_total * MIB for npu in npus}
    return {device: found[device] for device in devices if found.get(device)}


def _on_cards(place: _Place, wanted: Demand) -> Check:
    """Judge by the smallest of the cards."""
    split, total = place.split, min(place.cards.values())
    card = next(card for card, size in place.cards.items() if size == total)
    share = memory_share(place.told)
    room = int(total * share)
    weights, request = wanted.weights_on(split), wanted.request_on(split)
    expected = f"at most {_gib(room)}, {share:.0%} of the {_gib(total)} of card {card}"
    found = f"{place.instance.id}: {_gib(weights)} of weights on each of {_count(split.cards)}"
    if weights > room:
        fix = _more_cards(wanted, split, room)
        if share < VLLM_SHARE and weights + request + CARD_BYTES <= total * VLLM_SHARE:
            fix = f"raise pd_gpu_memory_utilization, or: {fix}"
        return FIT.bad(place.host.name, found, expected=expected, fix=fix)
    left, token = room - weights - CARD_BYTES, wanted.token_on(split)
    kept = f"{_gib(request)} for KV of {wanted.tokens} tokens" if request else "KV not estimated"
    found += f", {_gib(CARD_BYTES)} besides, {kept}"
    if request <= left:
        return FIT.ok(place.host.name, found, expected=expected)
    tokens = fitting_tokens(left, token) if token else 0
    fix = f"set pd_max_model_len to {tokens}" if tokens else _more_cards(wanted, split, room)
    return FIT.bad(place.host.name, found, expected=expected, fix=fix, severity="warn")


def _on_cpu(place: _Place, wanted: Demand) -> Check:
    """Judge by the memory for KV, and by the container's limit if it has one."""
    split, limit = place.split, place.spec.memory
    weights, request = wanted.weights_on(split) * place.ranks, wanted.request_on(split)
    space = place.spec.env.get("VLLM_CPU_KVCACHE_SPACE", "")
    pool = int(space) * GIB if space.isdecimal() else 0
    found = f"{place.instance.id}: {_gib(weights)} of weights"
    least = weights + pool * place.ranks + CPU_BYTES
    if limit and least > limit:
        found += f", {_gib(pool * place.ranks)} for KV, {_gib(CPU_BYTES)} besides"
        return FIT.bad(
            place.host.name,
            found,
            expected=f"at most {_gib(limit)}, the container's limit",
            fix=f"set pd_memory_gib to {-(-least // GIB)}, or remove it",
            severity="fail" if weights > limit else "warn",
        )
    # Without a number vLLM takes a share of the host's memory.
    if not request or not pool:
        return FIT.ok(place.host.name, f"{found}, KV not estimated")
    found += f", {_gib(request)} for KV of {wanted.tokens} tokens in each worker"
    expected = f"at most {_gib(pool)} for KV of each worker"
    if request <= pool:
        return FIT.ok(place.host.name, found, expected=expected)
    fix = f"set pd_kv_cache_gib to {-(-request // GIB)}"
    if tokens := fitting_tokens(pool, wanted.token_on(split)):
        fix += f", or pd_max_model_len to {tokens}"
    return FIT.bad(place.host.name, found, expected=expected, fix=fix, severity="warn")


def _more_cards(wanted: Demand, split: Split, room: int) -> str:
    """Return how many cards of this size would do."""
    larger = wanted.smallest(split, room)
    if larger is None:
        return "a smaller or quantized model, cards with more memory, or a smaller max_model_len"
    stages_kept = f", with pipeline_parallel_size {split.pipeline}" if split.pipeline > 1 else ""
    sizes = f"pd_tensor_parallel_size {larger.tensor}{stages_kept}"
    return f"{larger.cards} such cards would do: set {sizes}"


def _count(cards: int) -> str:
    """Return cards in words."""
    return f"{cards} cards" if cards > 1 else "1 card"


def _gib(size: int) -> str:
    """Return bytes as GiB."""
    return f"{size / GIB:.1f} GiB"
