"""Instances over several hosts: their parts on the further ones, and what cannot be split so.

Source: vLLM v0.32.0, engine/arg_utils.py and v1/executor/multiproc_executor.py: nodes have equally
many ranks, neighbours first, so a tensor-parallel group is on one host where it fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pdinfra.assets import Assets
from pdinfra.model.addresses import is_ip
from pdinfra.model.inventory import Host, HostSettings, Inventory
from pdinfra.model.plan import Instance, Part
from pdinfra.model.problems import Problem
from pdinfra.planning.images import engine_image
from pdinfra.planning.models import model_path
from pdinfra.planning.place import Wanted, ray_node, wanted
from pdinfra.stacks import kv_transfer
from pdinfra.stacks.base import Engine
from pdinfra.versions.order import order
from pdinfra.versions.table import VersionError
from pdinfra.versions.vllm import several_hosts_since

Cards = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Host → instance of another host → the host's cards for it."""


def lent(inventory: Inventory) -> dict[str, list[Wanted]]:
    """Return by host the instances of others that go over it."""
    result: dict[str, list[Wanted]] = {}
    for want in _all(inventory):
        for name in dict.fromkeys(want.further):
            if name != want.host.name:
                result.setdefault(name, []).append(want)
    return result


def with_parts(
    inventory: Inventory, engines: Mapping[str, list[Engine]], cards: Cards
) -> dict[str, list[Engine]]:
    """Return all engines, those that go over several hosts with their parts there."""
    hosts = {host.name: host for host in inventory.hosts}
    return {
        name: [
            _with_parts(engine, [hosts[n] for n in want.further if n in hosts], cards)
            for engine, want in zip(mine, wanted(hosts[name]), strict=True)
        ]
        for name, mine in engines.items()
    }


def parts_on(host: Host, engines: Sequence[Engine], path: str) -> list[Engine]:
    """Return a host's parts of these engines, which have parts. path: the model's, there."""
    return [
        replace(
            engine,
            instance=engine.instance.model_copy(update={"devices": part.devices}),
            address=part.address,
            model_path=path,
            node=node,
        )
        for engine in engines
        for node, part in enumerate(engine.instance.parts, start=1)
        if part.host == host.name
    ]


def span_problems(inventory: Inventory, assets: Assets) -> list[Problem]:
    """Return what cannot be split over hosts as the inventory says."""
    problems: list[Problem] = []
    for want in _all(inventory):
        if want.further or want.number("pipeline_parallel_size", 1) > 1:
            problems += _engine_problems(want)
        if want.further:
            problems += _host_problems(want, inventory, assets)
            problems += _uneven(want)
    return problems


def _all(inventory: Inventory) -> Iterator[Wanted]:
    """Yield all instances of all hosts."""
    for host in inventory.hosts:
        yield from wanted(host)


def _with_parts(engine: Engine, hosts: Sequence[Host], cards: Cards) -> Engine:
    """Return an engine with its parts on further hosts."""
    instance = engine.instance
    parts = tuple(_part(instance, node, host, cards) for node, host in enumerate(hosts, start=1))
    if not parts:
        return engine
    whole = instance.model_copy(update={"parts": parts})
    return replace(engine, instance=whole, master=engine.address)


def _part(instance: Instance, node: int, host: Host, cards: Cards) -> Part:
    """Return an instance's part on a further host."""
    own = f"{instance.id}-n{node}"
    # On Ray the workers of all engines are in the host's one node.
    name = ray_node(host) if host.settings.stack == "ray" else own
    return Part(
        id=name,
        host=host.name,
        address=host.address,
        devices=cards[host.name].get(instance.id, ()),
        container=f"pd-{host.settings.service}-{name}",
    )


def _engine_problems(want: Wanted) -> Iterator[Problem]:
    """Yield why no engine of this service, release, connector or role can be split so."""
    settings = want.host.settings
    what = f"goes over {1 + len(want.further)} hosts" if want.further else "is a pipeline"

    def problem(cause: str, fix: str) -> Problem:
        return Problem(host=want.host.name, thing=want.id, cause=f"{what}, {cause}", fix=fix)

    if settings.stack == "ray":
        if settings.accelerator == "cpu" and settings.ray_mode == "serve":
            cause = "which on CPU needs vLLM's own executor (Ray's refuses CPUs)"
            yield problem(cause, "set pd_stack to native, or keep it on one host, without pipeline")
        return
    if settings.stack != "native":
        fix = (
            "set pd_stack to native or ray, or keep it on one host, without pipeline_parallel_size"
        )
        yield problem(f"which stack {settings.stack} does not do", fix)
        return
    if settings.accelerator == "ascend":
        fix = "keep it on one host, without pipeline_parallel_size"
        yield problem("which pdinfra does not know how to do with vllm-ascend", fix)
        return
    version, since = kv_transfer.version_of(settings), several_hosts_since()
    if want.further and order(version) < order(since):
        fix = f"use an image of vLLM {since} or newer, or keep it on one host"
        yield problem(f"which vLLM {version} does by Ray only", fix)
    if settings.accelerator == "cpu" and want.number("pipeline_parallel_size", 1) > 1:
        cause = "which on CPU starts, and ends with the first request (measured on vLLM 0.32)"
        yield problem(cause, "use tensor_parallel_size alone")
    if want.role == "mixed":
        return
    if want.number("pipeline_parallel_size", 1) > 1:
        cause = (
            f"of {want.number('pipeline_parallel_size', 1)} stages, and KV would have to be handed "
            "over between stages: vLLM's NixlConnector refuses that for decode"
        )
        fix = "use tensor_parallel_size alone, or mixed instances"
        yield problem(cause, fix)
    if want.further and not _connector_spans(settings):
        cause = f"which is not known to work with {settings.connector} in vLLM {version}"
        fix = "set pd_connector to nixl with vLLM 0.13.0 or newer, or use mixed instances"
        yield problem(cause, fix)


def _connector_spans(settings: HostSettings) -> bool:
    """Tell whether the connector hands KV of several hosts over; True if others refuse it."""
    try:
        return all(row.spans for row in kv_transfer.rows_of(settings))
    except VersionError:
        return True


def _host_problems(want: Wanted, inventory: Inventory, assets: Assets) -> Iterator[Problem]:
    """Yield what is wrong with the hosts that an instance goes over."""
    first = want.host
    hosts = {host.name: host for host in inventory.hosts}
    thing = f"hosts of {want.id}"

    def problem(cause: str, fix: str) -> Problem:
        return Problem(host=first.name, thing=thing, cause=cause, fix=fix)

    for name, times in Counter(want.further).items():
        if name == first.name:
            cause = f"name {name}, on which the entry stands: that is its first host"
            yield problem(cause, "name the further hosts alone")
        elif name not in hosts:
            yield problem(
                f"name {name}, which the inventory does not have", "name one of its hosts"
            )
        elif times > 1:
            yield problem(f"name {name} {times} times", "name it once")
    others = [hosts[n] for n in dict.fromkeys(want.further) if n in hosts and n != first.name]
    for host in [first, *others]:
        if not is_ip(host.address):
            cause = f"{host.name} has the address {host.address}, and vLLM binds IP addresses there"
            yield problem(cause, f"set pd_address of {host.name} to its IP address")
    for host in others:
        if host.address == first.address:
            cause = f"{host.name} is the same machine as {first.name} ({host.address})"
            yield problem(cause, "take it out of hosts")
        for word, mine, its in (
            ("image", engine_image(first, assets).ref, engine_image(host, assets).ref),
            ("model", model_path(first, assets), model_path(host, assets)),
        ):
            if mine != its:
                cause = f"{host.name} has the {word} {its}, {first.name} has {mine}"
                yield problem(cause, f"give both hosts one {word}")


def _uneven(want: Wanted) -> Iterator[Problem]:
    """Yield ranks that cannot be split evenly."""
    count = 1 + len(want.further)
    if want.ranks % count == 0:
        return
    tensor, pipeline = (
        want.number(name, 1) for name in ("tensor_parallel_size", "pipeline_parallel_size")
    )
    yield Problem(
        host=want.host.name,
        thing=want.id,
        cause=(
            f"tensor_parallel_size {tensor} x pipeline_parallel_size {pipeline} are {want.ranks} "
            f"ranks, which {count} hosts cannot share evenly"
        ),
        fix=f"make their product a multiple of {count}, or change hosts",
    )
