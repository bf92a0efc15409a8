"""vLLM's own connectors from prefill to decode: what an engine is told, by vLLM's version.

Source: the table versions/vllm.yml, whose texts in braces are filled in here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pdinfra.model.inventory import HostSettings
from pdinfra.model.paths import kv_dir
from pdinfra.model.plan import Mount
from pdinfra.stacks.base import Engine, Launch, Peers, peers_of
from pdinfra.versions.connectors import MULTI, connectors
from pdinfra.versions.table import VersionError
from pdinfra.versions.vllm import BUILT, Part, Variant, variant, variants, vllm_version

KV_ROLE = {"prefill": "kv_producer", "decode": "kv_consumer"}
CPU_BLOCK = 32
"""Tokens; on CPU a multiple of 32 (measured)."""


def version_told(service: HostSettings) -> str | None:
    """Return the version of vLLM in a host's image; None: nobody says."""
    if service.vllm_version is not None:
        return service.vllm_version
    return BUILT if service.image is None else vllm_version(service.image)


def version_of(service: HostSettings) -> str:
    """Return the version of vLLM in a host's image; where nobody says, the newest known."""
    return version_told(service) or BUILT


def inside(service: HostSettings) -> tuple[str, ...]:
    """Return the connectors that hand KV over: the connector's own name, or those inside multi."""
    return tuple(service.multi_connectors) if service.connector == MULTI else (service.connector,)


def folder_of(service: HostSettings) -> str:
    """Return the folder that engines share where a connector hands KV over by files."""
    return service.kv_path or kv_dir(service.service)


def rows_of(service: HostSettings) -> tuple[Variant, ...]:
    """Return the table's rows for what is inside. Raises VersionError."""
    version = version_of(service)
    if service.connector == MULTI:
        variant(MULTI, version)
    return tuple(variant(name, version) for name in inside(service))


def protocol_of(service: HostSettings) -> str:
    """Return how a request goes from prefill to decode: that of the most demanding one inside."""
    known = connectors()
    try:
        by_version = {row.connector: row.protocol for row in rows_of(service)}
    except VersionError:
        by_version = {}
    spoken = [
        by_version.get(name) or known[name].protocol for name in inside(service) if name in known
    ]
    others = [name for name in spoken if name not in (None, "sequential")]
    return others[0] or "none" if others else "sequential"


def launch(base: Launch, engine: Engine, service: HostSettings, peers: Peers) -> Launch:
    """Return an engine that hands KV over. Raises VersionError for what problems() refuses."""
    values = values_of(engine, service, peers)
    children = [(row, _part(row, engine, service)) for row in rows_of(service)]
    configs = [_config(row, part, engine, values) for row, part in children]
    config = configs[0]
    if service.connector == MULTI:
        outer = variant(MULTI, version_of(service))
        config = _config(outer, _part(outer, engine, service), engine, values)
        config["kv_connector_extra_config"] = {"connectors": configs}
    env = dict(base.env)
    args: list[str] = []
    for _, part in children:
        env |= {name: str(filled(text, values)) for name, text in part.environment.items()}
        args += [word for word in part.args if word not in args]
    mounts = base.mounts
    if any(row.shared for row, _ in children):
        folder = folder_of(service)
        mounts += (Mount(source=folder, target=folder, read_only=False),)
    command = (*base.command, *args, "--kv-transfer-config", json.dumps(config))
    return Launch(command, env, mounts)


def by_vllm_router(service: HostSettings) -> bool:
    """Tell whether vllm-router speaks what the connector wants."""
    protocol = protocol_of(service)
    return any(row.router and row.protocol == protocol for row in connectors().values())


def shares(service: HostSettings) -> bool:
    """Tell whether the connector, or one inside of it, reads and writes a folder."""
    return service.stack == "native" and any(row.shared for row in _of_any_release(service))


def waits(service: HostSettings) -> bool:
    """Tell whether engines wait for each other when they start, and only then."""
    return any(row.waits for row in _of_any_release(service))


def with_sizes(engine: Engine, service: HostSettings) -> Engine:
    """Return an engine with the sizes that its connector needs, where none are given.

    Where only whole blocks are handed over, CPU's default of 128 leaves an 83-token prompt out
    (measured); and a step must have room for the longest prompt if it must be computed in one.
    """
    settings, rows = engine.settings, rows_of(service)
    if engine.accelerator == "cpu" and any(row.shared for row in rows):
        settings = replace(settings, block_size=settings.block_size or CPU_BLOCK)
    if is_stock(service) and any(row.whole for row in rows):
        step = settings.max_num_batched_tokens or settings.max_model_len
        settings = replace(settings, max_num_batched_tokens=step)
    return replace(engine, settings=settings)


def _of_any_release(service: HostSettings) -> Iterator[Variant]:
    """Yield the table's rows for what is inside, whatever the image's version is."""
    names = inside(service)
    return (row for row in variants() if row.connector in names)


def is_stock(service: HostSettings) -> bool:
    """Tell whether the engines' image is another one than pdinfra's own."""
    return service.accelerator != "cpu" or service.image is not None


def shortest(service: HostSettings) -> int:
    """Return the fewest tokens that a prompt may have: pdinfra's own image takes any."""
    if not is_stock(service):
        return 0
    return max((row.shortest for row in _of_any_release(service)), default=0)


def address_of(engine: Engine, service: HostSettings) -> str:
    """Return where requests say that an engine's KV is; empty where they say nothing."""
    try:
        rows = rows_of(service)
    except VersionError:
        return ""
    texts = [row.address.get(engine.instance.role, "") for row in rows]
    values = values_of(engine, service, peers_of(()))
    return next((str(filled(text, values)) for text in texts if text), "")


def values_of(engine: Engine, service: HostSettings, peers: Peers) -> dict[str, Any]:
    """Return what the texts in braces stand for."""
    instance = engine.instance
    first, last = peers.first or engine, peers.last or engine
    ports = [instance.kv_port + n for n in range(instance.kv_ports)]
    half = len(ports) // 2
    return {
        "address": engine.address,
        "port": instance.port,
        "kv_port": instance.kv_port,
        "side_port": instance.kv_port + 1,
        "rpc_port": instance.kv_port + 1 + instance.tensor_parallel_size,
        "kv_last": instance.kv_port + instance.kv_ports - 1,
        "kv_first": ",".join(map(str, ports[:half])),
        "kv_second": ",".join(map(str, ports[half:])),
        "id": instance.id,
        "rank": peers.ranks.get(instance.id, 0),
        "count": len(peers.ranks),
        "first_address": first.address,
        "first_kv_port": first.instance.kv_port,
        "last_address": last.address,
        "last_kv_port": last.instance.kv_port,
        "kv_path": folder_of(service),
        "offload_bytes": service.offload_gib << 30,
    }


def filled(value: Any, values: Mapping[str, Any]) -> Any:
    """Return a value of the table with the plan's values; ``"{rank}"`` alone keeps its type."""
    if isinstance(value, dict):
        return {name: filled(each, values) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, values) for each in value]
    if not isinstance(value, str):
        return value
    if value[:1] == "{" and value[1:-1] in values:
        return values[value[1:-1]]
    return value.format_map(values)


def _part(row: Variant, engine: Engine, service: HostSettings) -> Part:
    """Return what a row tells an engine of this role on this accelerator and image."""
    keys = [engine.accelerator, engine.instance.role, *(["stock"] if is_stock(service) else [])]
    parts: Sequence[Part] = [row, *(row.parts[key] for key in keys if key in row.parts)]
    config: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    environment: dict[str, str] = {}
    args: tuple[str, ...] = ()
    for part in parts:
        config |= part.config
        extra |= part.extra
        environment |= part.environment
        args += part.args
    return Part(config=config, extra=extra, environment=environment, args=args)


def _config(row: Variant, part: Part, engine: Engine, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return --kv-transfer-config of one connector."""
    role = KV_ROLE[engine.instance.role]
    config = {"kv_connector": row.connector, "kv_role": role, **filled(part.config, values)}
    if part.extra:
        config["kv_connector_extra_config"] = filled(part.extra, values)
    return config
