"""The folder that engines share, where a connector hands KV over by files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pdinfra.model.facts import HostFacts
from pdinfra.model.inventory import Host, Inventory
from pdinfra.model.paths import kv_dir
from pdinfra.model.plan import HostPlan, Plan
from pdinfra.model.problems import Problem
from pdinfra.model.shared_path import SharedProbe
from pdinfra.stacks import kv_transfer

CPU_IMAGE = "vllm-cpu"
CPU_USER = 1000
"""The user of pdinfra's CPU image (images/vllm-cpu); vendors' images run as root."""


def shared_path(inventory: Inventory) -> str:
    """Return the folder; empty where the connector needs none, or it is not given."""
    if not _shares(inventory):
        return ""
    engines = _engines(inventory)
    given = next((h.settings.kv_path for h in engines if h.settings.kv_path), None)
    return given or ("" if _machines(engines) > 1 else kv_dir(inventory.service.service))


def shared_path_problems(inventory: Inventory) -> list[Problem]:
    """Refuse several machines without a folder, or with several."""
    engines = _engines(inventory)
    if not _shares(inventory):
        return []
    paths = {host.name: host.settings.kv_path for host in engines}
    if len(set(paths.values())) > 1:
        seen = " and ".join(f"{path or 'none'} on {host}" for host, path in paths.items())
        return [
            Problem(
                host="inventory",
                thing="pd_kv_path",
                cause=f"engines would have different folders: {seen}",
                fix="set pd_kv_path to one path for all hosts with engines",
            )
        ]
    if _machines(engines) > 1 and not shared_path(inventory):
        return [
            Problem(
                host="inventory",
                thing="pd_kv_path",
                cause=f"missing: {inventory.service.connector} hands KV over by files, and engines "
                f"are on {_machines(engines)} machines",
                fix="mount one NFS, Lustre or CephFS folder on all of them, set pd_kv_path to it",
            )
        ]
    return []


def shared_probes(plan: Plan, facts: Mapping[str, HostFacts]) -> dict[str, SharedProbe]:
    """Return what each host with engines does to prove the folder; none where none is shared."""
    hosts = [host for host in plan.active if host.name in facts and _runs_engines(host)]
    if not plan.shared_path:
        return {}
    return {
        host.name: SharedProbe(
            folder=plan.shared_path,
            uid=_user(host),
            hosts=tuple(each.name for each in hosts),
            own=plan.shared_path == kv_dir(plan.service) and not _spans(plan),
        )
        for host in hosts
    }


def _shares(inventory: Inventory) -> bool:
    """Tell whether engines hand KV over by files."""
    paired = any(host.roles and host.roles != ("mixed",) for host in inventory.hosts)
    return paired and kv_transfer.shares(inventory.service)


def _engines(inventory: Inventory) -> list[Host]:
    """Return the hosts with engines."""
    return [host for host in inventory.hosts if host.roles]


def _machines(hosts: Sequence[Host]) -> int:
    """Count machines: hosts of one address are one."""
    return len({host.address for host in hosts})


def _runs_engines(host: HostPlan) -> bool:
    """Tell whether a host runs engines."""
    return any(container.kind == "instance" for container in host.containers)


def _spans(plan: Plan) -> bool:
    """Tell whether engines are on several machines, whatever the router is on."""
    return len({host.address for host in plan.active if _runs_engines(host)}) > 1


def _user(host: HostPlan) -> int:
    """Return the user id that a host's engines write with."""
    own = any(image.definition == CPU_IMAGE for image in host.images)
    return CPU_USER if own else 0
