"""Every prefill device reaches every decode device: the all-pairs ping over the NPU network.

Device i to device i is not enough: two A2 hosts that are cabled directly pass that and fail between
all others, and KV reads fail with them while the service looks healthy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pdinfra.doctor.ascend.host import AscendHost, ascend_hosts
from pdinfra.doctor.ascend.network import answers
from pdinfra.doctor.rules import Rule
from pdinfra.model.ascend import NpuNetwork
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.inventory import Role
from pdinfra.model.plan import Plan
from pdinfra.reading.hccn import BUSY

PING = Rule(
    id="npu-ping",
    what="Every prefill device reaches every decode device of other hosts (all pairs).",
    expected="an answer from every decode device to every prefill device",
    fix="check switch, VLAN, routes and firewall between the two devices",
    source="vllm-ascend PD tutorial, deployment checks; issue 5461; a report on direct-cabled A2",
)

RULES = (PING,)

REPLIES = re.compile(r"(\d+) packets transmitted, (\d+) received")

Target = dict[str, Any]
"""``device`` (int) pings ``address`` (str): an argument of the module pd_npu_ping."""


def targets(plan: Plan, facts: Mapping[str, HostFacts]) -> dict[str, list[Target]]:
    """Return what each prefill host has to ping; devices without an address or link are left out.

    One direction is enough: a ping needs both ways. Devices of one host are not pinged, as the
    documents ask for it between hosts only.
    """
    hosts = {host.name: host for host in ascend_hosts(plan, facts) if host.ascend.state == "ready"}
    found: dict[str, list[Target]] = {}
    for source in hosts.values():
        mine = [
            {"device": device, "address": address}
            for device in _addresses(plan, source, "prefill")
            for goal in hosts.values()
            if goal is not source
            for address in _addresses(plan, goal, "decode").values()
        ]
        if mine:
            found[source.name] = mine
    return found


def checks(
    plan: Plan, facts: Mapping[str, HostFacts], results: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Check]:
    """Return one check for each pair of hosts that was pinged; a bad one names its device pairs.

    results: by prefill host, what pd_npu_ping returned as ``results``.
    """
    hosts = ascend_hosts(plan, facts)
    found = []
    for source in hosts:
        answered = {(r["device"], r["address"]): r for r in results.get(source.name, ())}
        for goal in hosts:
            pairs = {
                (device, peer): answered[(device, address)]
                for device in source.devices
                for peer, address in _addresses(plan, goal, "decode").items()
                if goal is not source and (device, address) in answered
            }
            if pairs:
                found.append(_check(source, goal, pairs))
    return found


def _addresses(plan: Plan, host: AscendHost, role: Role) -> dict[int, str]:
    """Return the addresses of a host's devices of one role, by device; down is down."""
    # openYuanrong places prefill and decode where NPUs are free: any device may be either.
    wanted = set(host.devices) if plan.cluster else _planned(plan, host, role)
    return {
        device: network.address
        for device, network in answers(host).items()
        if device in wanted and network.address and _link(host, network) != "DOWN"
    }


def _planned(plan: Plan, host: AscendHost, role: Role) -> set[int]:
    """Return the devices of a host's instances of one role."""
    return {d for i in plan.by_role(role) if i.host == host.name for d in i.devices}


def _link(host: AscendHost, network: NpuNetwork) -> str | None:
    """Return the link that a device's ping goes over."""
    return network.vnic if host.ascend.generation == "a3" else network.link


def _check(
    source: AscendHost, goal: AscendHost, pairs: Mapping[tuple[int, int], Mapping[str, Any]]
) -> Check:
    """Judge all pings from one host to another."""
    where = f"{source.name} → {goal.name}"
    bad = {pair: result for pair, result in pairs.items() if not _well(result)}
    if not bad:
        return PING.ok(where, f"{len(pairs)} of {len(pairs)} device pairs answer")
    named = ", ".join(f"{device} → {peer}" for device, peer in bad)
    (device, _), first = next(iter(bad.items()))
    found = f"{len(bad)} of {len(pairs)} device pairs do not: {named} ({_words(first)})"
    ping = "-hccs_ping" if source.ascend.generation == "a3" else "-ping"
    fix = (
        f"check switch, VLAN and routes; again by hand on {source.name}: "
        f"`hccn_tool -i {device} {ping} -g address {first['address']}`"
    )
    same = {pair for pair in pairs if pair[0] == pair[1]}
    if same and len(pairs) > len(same) and set(bad) == set(pairs) - same:
        fix = (
            "only devices of one number reach each other, as with direct cables between two "
            "hosts: connect them by a switch"
        )
    return PING.bad(where, found, fix=fix)


def _well(result: Mapping[str, Any]) -> bool:
    """Tell whether every packet of a ping came back."""
    counts = REPLIES.search(result["stdout"])
    return counts is not None and int(counts.group(2)) == int(counts.group(1)) > 0


def _words(result: Mapping[str, Any]) -> str:
    """Return why a ping counts as failed, in few words."""
    counts = REPLIES.search(result["stdout"])
    if counts is not None:
        return f"{counts.group(2)} of {counts.group(1)} packets came back"
    if BUSY in result["stdout"]:
        return "hccn_tool is busy"
    return " ".join(result["stdout"].split())[-120:] or f"hccn_tool ended with {result['rc']}"
