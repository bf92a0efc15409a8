"""vllm-ascend's own connectors from prefill to decode: LLMDataDist's and Mooncake's, by image.

Source: the table versions/vllm_ascend.yml. The rank table that LLMDataDist reads, and the variable
that names it, are not made here: they belong to the whole service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pdinfra.model.addresses import is_ipv4
from pdinfra.model.ascend import NPU_PORT, NPU_PORTS
from pdinfra.model.inventory import Host, HostSettings, Inventory, Role
from pdinfra.model.plan import Instance
from pdinfra.model.problems import Problem
from pdinfra.stacks.base import Engine, Launch, Peers
from pdinfra.versions.table import VersionError, is_a3
from pdinfra.versions.vllm_ascend import Variant, variant, variants

RANK: dict[Role, int] = {"prefill": 0, "decode": 1}


def problems(inventory: Inventory, instances: Sequence[Instance]) -> list[Problem]:
    """Refuse images without the connector, names for addresses, and sizes that cannot be paired."""
    paired = {i.host for i in instances if i.role != "mixed"}
    hosts = [host for host in inventory.hosts if host.name in paired]
    connector = inventory.service.connector
    told = any(row.sizes for row in variants() if row.connector == connector)
    return [
        *_image_problems(hosts),
        *_address_problems(hosts),
        *(_uneven(instances) if told else ()),
        *_too_small(instances),
    ]


def launch(
    base: Launch,
    engine: Engine,
    role: str,
    service: HostSettings,
    peers: Peers,
) -> Launch:
    """Return an engine that hands KV over. role: as the connector calls it.

    Raises VersionError for an image that problems() refuses.
    """
    image = service.image or ""
    row = variant(service.connector, image)
    config = json.dumps(_config(row, engine.instance, role, peers))
    command = (*base.command, "--kv-transfer-config", config)
    if engine.instance.role in row.uncached:
        command += ("--no-enable-prefix-caching",)
    env = base.env | row.environment | {"HCCL_IF_IP": engine.address}
    if row.port:
        env[row.port] = str(engine.instance.kv_port)
    if row.address:
        env[row.address] = engine.address
    if row.physical:
        env[row.physical] = ",".join(str(device) for device in engine.instance.devices)
    if row.roce and not is_a3(image):
        env["HCCL_INTRA_ROCE_ENABLE"] = "1"
    return Launch(command, env | _npu_ports(peers.numbers[engine.instance.id]), base.mounts)


def _config(row: Variant, instance: Instance, role: str, peers: Peers) -> dict[str, Any]:
    """Return --kv-transfer-config; its port is text, as in all of vllm-ascend's examples."""
    config: dict[str, Any] = {
        "kv_connector": row.connector,
        "kv_role": role,
        "kv_port": str(instance.kv_port),
        "engine_id": instance.id,
        **row.config,
    }
    if row.rank:
        config["kv_rank"] = RANK[instance.role]
    if row.module:
        config["kv_connector_module_path"] = row.module
    if row.sizes:
        config["kv_connector_extra_config"] = {
            **row.extra,
            "prefill": {"dp_size": 1, "tp_size": peers.sizes.get("prefill", 1)},
            "decode": {"dp_size": 1, "tp_size": peers.sizes.get("decode", 1)},
        }
    return config


def _npu_ports(number: int) -> dict[str, str]:
    """Return HCCL's ports on the cards for all but a machine's first instance, which has 16666."""
    if number == 0:
        return {}
    first = NPU_PORT + number * NPU_PORTS
    return {"HCCL_NPU_SOCKET_PORT_RANGE": f"{first}-{first + NPU_PORTS - 1}"}


def _sizes(instances: Sequence[Instance], role: Role) -> list[int]:
    """Return the tensor-parallel sizes that a role has, each once; 1 where nothing has the role."""
    mine = (i.tensor_parallel_size for i in instances if i.role == role)
    return list(dict.fromkeys(mine)) or [1]


def _image_problems(hosts: Sequence[Host]) -> Iterator[Problem]:
    """Yield images that do not have the connector; those that are not named are refused as such."""
    for host in hosts:
        image = host.settings.image
        if image is None:
            continue
        try:
            variant(host.settings.connector, image)
        except VersionError as error:
            yield Problem.of(host.name, f"pd_image {image}", str(error))


def _address_problems(hosts: Sequence[Host]) -> Iterator[Problem]:
    """Yield hosts that HCCL cannot be told by HCCL_IF_IP."""
    for host in hosts:
        if not is_ipv4(host.address):
            yield Problem(
                host=host.name,
                thing=f"address {host.address}",
                cause="HCCL and the connector are told IPv4 addresses",
                fix="set pd_address to the host's IPv4 address",
            )


def _uneven(instances: Sequence[Instance]) -> Iterator[Problem]:
    """Yield roles with several sizes: the connector is told one of each."""
    for role in RANK:
        sizes = _sizes(instances, role)
        if len(sizes) > 1:
            yield Problem(
                host="inventory",
                thing=f"tensor_parallel_size of {role}",
                cause=f"instances have {' and '.join(map(str, sizes))}, the connector is told one",
                fix=f"give all instances of {role} one size",
            )


def _too_small(instances: Sequence[Instance]) -> Iterator[Problem]:
    """Yield a prefill with fewer ranks than a decode has: each of decode's reads from one of its.

    Source: mooncake_connector.py and llmdatadist_c_mgr_connector.py of v0.10.1rc1 and v0.11.0.
    """
    prefill, decode = min(_sizes(instances, "prefill")), max(_sizes(instances, "decode"))
    if prefill < decode:
        yield Problem(
            host="inventory",
            thing="tensor_parallel_size",
            cause=f"decode has {decode} ranks, and prefill only {prefill} to read from",
            fix="make prefill's at least as large as decode's",
        )
