"""A Ray cluster as planned against the one that `ray status` counts."""

from __future__ import annotations

from pdinfra.model.plan import RayCluster
from pdinfra.model.ray import ClusterSeen
from pdinfra.stacks.ray import host_word


def missing(cluster: RayCluster, seen: ClusterSeen | None) -> str:
    """Return what the cluster lacks, in one line; empty if it is as planned."""
    if seen is None:
        return f"the head of {cluster.address} does not answer `ray status`"
    count = len(cluster.nodes)
    away = [n for n in cluster.nodes if not seen.resources.get(host_word(n.host))]
    if away:
        names = ", ".join(f"{node.id} on {node.host}" for node in away)
        return f"{seen.nodes} of {count} nodes are in the cluster; missing: {names}"
    differs = [
        f"{name} {seen.resources.get(name, 0):g} instead of {wanted:g}"
        for name, wanted in cluster.resources.items()
        if seen.resources.get(name, 0) != wanted
    ]
    if differs:
        return f"the cluster has {', '.join(differs)}"
    if seen.nodes != count:
        return f"{seen.nodes} nodes are in the cluster, {count} are planned"
    return ""
