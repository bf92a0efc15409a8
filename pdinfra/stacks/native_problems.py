"""What of an inventory vLLM's own connectors cannot do, on CPU and NVIDIA."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pdinfra.model.inventory import Host, HostSettings, Inventory
from pdinfra.model.problems import Problem
from pdinfra.stacks import kv_transfer
from pdinfra.stacks.base import Engine, peers_of
from pdinfra.versions.connectors import MULTI, connectors, usable
from pdinfra.versions.order import order
from pdinfra.versions.table import VersionError
from pdinfra.versions.vllm import Variant, vllm_version

OPTION = "--kv-transfer-config"
OWN_POLICIES = ("round_robin", "least_busy")
"""Of pdinfra's own proxy."""


def problems(inventory: Inventory, engines: Sequence[Engine]) -> list[Problem]:
    """Return what cannot work, all at once."""
    found = [*_multi(inventory), *_told_twice(inventory)]
    rows: dict[str, tuple[Variant, ...]] = {}
    refused: dict[str, tuple[Host, str]] = {}
    paired = [engine for engine in engines if engine.instance.role != "mixed"]
    hosts = {engine.instance.host for engine in paired}
    for host in inventory.hosts if not found else ():
        if host.name not in hosts:
            continue
        try:
            rows[host.name] = kv_transfer.rows_of(host.settings)
        except VersionError as error:
            refused.setdefault(host.settings.image or "pdinfra's own", (host, str(error)))
    for image, (host, text) in refused.items():
        unsaid = kv_transfer.version_told(host.settings) is None
        hint = "; its name tells no version: pd_vllm_version can" if unsaid else ""
        found.append(Problem.of(host.name, f"pd_image {image}", f"{text}{hint}"))
    if not found and rows:
        mine = next(iter(rows.values()))
        found += _pairs(mine, paired)
        found += _equal_sizes(mine, paired)
        found += _short_steps(mine, paired, inventory.service)
        found += _unlike(mine, paired, inventory.service)
    found += _policy(inventory, paired=bool(paired))
    settings = {host.name: host.settings for host in inventory.hosts}
    ranks = peers_of(paired).ranks
    for engine in paired:
        found += _own_config(engine, settings[engine.instance.host], ranks)
    return found


def _multi(inventory: Inventory) -> Iterator[Problem]:
    """Yield what MultiConnector cannot have inside."""
    service = inventory.service
    if service.connector != MULTI:
        return
    host = inventory.hosts[0].name
    beside = [
        r for r in connectors().values() if r.inside and service.accelerator in r.accelerators
    ]
    rows = {row.name: row for row in (*usable(service.stack, service.accelerator), *beside)}
    fit = [row.family or row.name for row in rows.values() if row.name != MULTI]
    for word, count in Counter(service.multi_connectors).items():
        thing = f"pd_multi_connectors {word}"
        if word not in rows or word == MULTI:
            cause = f"is none that can be inside another on {service.accelerator}"
            fix = f"use one of: {', '.join(dict.fromkeys(fit))}"
            yield Problem(host=host, thing=thing, cause=cause, fix=fix)
        elif count > 1:
            yield Problem(host=host, thing=thing, cause=f"listed {count} times", fix="list it once")
    spoken = {
        row.protocol: word
        for word in service.multi_connectors
        if (row := rows.get(word)) and row.protocol not in (None, "sequential")
    }
    if len(spoken) > 1:
        names = " and ".join(spoken.values())
        cause = f"{names} want their requests in different ways, a router can send only one"
        fix = f"keep one of them; others inside can be: {_beside()}"
        yield Problem(host=host, thing="pd_multi_connectors", cause=cause, fix=fix)


def _beside() -> str:
    """Return the families that go with any other."""
    rows = connectors().values()
    fit = (r.family for r in rows if r.family and (r.inside or r.protocol == "sequential"))
    return ", ".join(dict.fromkeys(fit))


def _told_twice(inventory: Inventory) -> Iterator[Problem]:
    """Yield hosts whose image's name tells another version than the inventory."""
    seen = set()
    for host in inventory.hosts:
        said, image = host.settings.vllm_version, host.settings.image
        told = vllm_version(image) if image else None
        if said and told and order(said) != order(told) and image not in seen:
            seen.add(image)
            yield Problem(
                host=host.name,
                thing=f"pd_vllm_version {said}",
                cause=f"the image's name tells {told}: {image}",
                fix="remove pd_vllm_version, or name the other image",
            )


def _pairs(rows: Sequence[Variant], engines: Sequence[Engine]) -> Iterator[Problem]:
    """Yield what joins exactly one prefill and one decode, given more or fewer."""
    row = next((row for row in rows if row.pair), None)
    if row is None or not engines:
        return
    count = Counter(engine.instance.role for engine in engines)
    if count["prefill"] == count["decode"] == 1:
        return
    yield Problem(
        host="inventory",
        thing=f"pd_connector {row.connector}",
        cause=(
            f"joins one prefill and one decode{' (kv_parallel_size 2)' if row.waits else ''}, "
            f"there are {count['prefill']} and {count['decode']}"
        ),
        fix="keep one host in each of the groups prefill and decode, or use nixl",
    )


def _equal_sizes(rows: Sequence[Variant], engines: Sequence[Engine]) -> Iterator[Problem]:
    """Yield sizes that differ where each rank hands over to the same rank of the other role."""
    row = next((row for row in rows if row.equal), None)
    sizes = sorted({engine.instance.tensor_parallel_size for engine in engines})
    if row is None or len(sizes) < 2:
        return
    yield Problem(
        host="inventory",
        thing="pd_tensor_parallel_size",
        cause=(
            f"{row.connector} hands KV from each rank to the same rank of the other engine, sizes "
            f"are {' and '.join(map(str, sizes))}"
        ),
        fix="give all instances one tensor_parallel_size",
    )


def _unlike(
    rows: Sequence[Variant], engines: Sequence[Engine], service: HostSettings
) -> Iterator[Problem]:
    """Yield what keeps engines from finding each other's files, or mixes them up.

    Source: pdinfra's own class names a folder by all of these; vLLM's own has one file for all
    ranks (read in v0.32.0, example_connector.py).
    """
    row = next((row for row in rows if row.shared), None)
    if row is None:
        return
    for name in ("tensor_parallel_size", "max_model_len", "block_size"):
        own = name == "tensor_parallel_size"
        seen = {getattr(e.instance if own else e.settings, name) for e in engines}
        if len(seen) > 1:
            yield Problem(
                host="inventory",
                thing=f"pd_{name}",
                cause=f"{row.connector} finds KV of an engine like itself only, this differs",
                fix=f"give all instances one {name}",
            )
        elif own and kv_transfer.is_stock(service) and seen != {1}:
            yield Problem(
                host="inventory",
                thing=f"pd_{name}",
                cause=f"vLLM's {row.connector} writes every rank's KV to one file",
                fix="use nixl, or one card for each instance",
            )


def _short_steps(
    rows: Sequence[Variant], engines: Sequence[Engine], service: HostSettings
) -> Iterator[Problem]:
    """Yield engines that would compute a long prompt in several steps where one is needed."""
    row = next((row for row in rows if row.whole and kv_transfer.is_stock(service)), None)
    for engine in engines if row else ():
        settings = engine.settings
        longest, step = settings.max_model_len, settings.max_num_batched_tokens
        if longest is not None and (step is None or step >= longest):
            continue
        said = f"max_num_batched_tokens is {step}" if step else "nothing says how long one may be"
        fix = "set pd_max_model_len" if longest is None else f"remove it, or set it to {longest}"
        yield Problem(
            host=engine.instance.host,
            thing=engine.instance.id,
            cause=(
                f"{row.connector if row else ''} loses a prompt that is computed in several steps "
                f"(vLLM issue 16928), and {said}"
            ),
            fix=fix,
        )


def _policy(inventory: Inventory, *, paired: bool) -> Iterator[Problem]:
    """Yield a policy that what answers requests does not have."""
    host = inventory.router
    policy, service = host.settings.router_policy, inventory.service
    proxy = paired and not kv_transfer.by_vllm_router(service)
    if policy in OWN_POLICIES if proxy else policy != "least_busy":
        return
    who = f"pdinfra's own proxy answers for {service.connector}" if proxy else "vllm-router answers"
    has = ", ".join(OWN_POLICIES) if proxy else "round_robin, or another of its own"
    yield Problem(
        host=host.name,
        thing=f"pd_router_policy {policy}",
        cause=f"{who}, which has none of this name",
        fix=f"use one of: {has}",
    )


def _own_config(
    engine: Engine, service: HostSettings, ranks: Mapping[str, int]
) -> Iterator[Problem]:
    """Yield a --kv-transfer-config among the user's own arguments, with what is wrong in it."""
    given = _given(engine.settings.engine_args)
    if given is None:
        return
    wrong = []
    try:
        document: Any = json.loads(given)
    except ValueError:
        document = None
        wrong.append("it is no JSON")
    if isinstance(document, dict):
        name = document.get("kv_connector")
        if name not in (None, service.connector):
            wrong.append(f"kv_connector is {name}, pd_connector {service.connector}")
        size = document.get("kv_parallel_size")
        if size not in (None, 1, len(ranks)):
            wrong.append(f"kv_parallel_size is {size}, there are {len(ranks)} engines")
        rank = document.get("kv_rank")
        mine = ranks[engine.instance.id]
        if rank not in (None, mine):
            other = next((name for name, n in ranks.items() if n == rank), None)
            whose = f", the rank of {other}" if other else ""
            wrong.append(f"kv_rank is {rank}{whose}; this one's is {mine}")
    cause = "pdinfra derives it, and vLLM would take only one of the two"
    yield Problem(
        host=engine.instance.host,
        thing=f"engine_args {OPTION} of {engine.instance.id}",
        cause="; ".join([cause, *wrong]),
        fix="remove it; pd_connector, pd_kv_path and pd_kv_port say what differs",
    )


def _given(words: Sequence[str]) -> str | None:
    """Return the option's value among arguments; None without it."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == OPTION:
            return value if equals else "".join(words[number + 1 : number + 2])
    return None
