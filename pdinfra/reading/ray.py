"""What Ray says: Serve's REST API, and `ray status` → data.

Source: Ray 2.60, captured from a cluster of three nodes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pdinfra.model.facts import ReplicaFact, ServeFact
from pdinfra.model.ray import ClusterSeen

SECTION = re.compile(r"^(Active|Idle|Pending|Recent failures):$")
NODE = re.compile(r"^ (\d+) \S+$")
RESOURCE = re.compile(r"^ (?P<used>[\d.]+)(?:\w*B)?/(?P<total>[\d.]+)(?:\w*B)? (?P<name>\S+)")


def serve_fact(text: str | None) -> ServeFact | None:
    """Read GET /api/serve/applications/; None where nothing sensible answered."""
    try:
        document = json.loads(text or "")
        applications: Mapping[str, Any] = document["applications"]
        return ServeFact(
            statuses={name: str(each["status"]) for name, each in applications.items()},
            messages={name: str(each.get("message") or "") for name, each in applications.items()},
            replicas=tuple(
                ReplicaFact(
                    id=str(replica["replica_id"]),
                    deployment=title,
                    address=str(replica.get("node_ip") or ""),
                    state=str(replica["state"]),
                    pid=int(replica.get("pid") or 0),
                )
                for each in applications.values()
                for title, deployment in each["deployments"].items()
                for replica in deployment["replicas"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def cluster_seen(text: str) -> ClusterSeen | None:
    """Read `ray status`: how many nodes are in the cluster, and what they have together.

    None if it is not one. Memory and object store are sums in units that change with their size;
    they are left out.
    """
    nodes, section, total, names = 0, "", False, {}
    for line in text.splitlines():
        found = SECTION.match(line)
        if found:
            section = found.group(1)
        if line.startswith("Total Usage"):
            total = True
        if line.startswith("From request_resources"):
            total = False
        mine = NODE.match(line)
        if mine and section in ("Active", "Idle") and not total:
            nodes += int(mine.group(1))
        resource = RESOURCE.match(line)
        if total and resource and resource["name"] not in ("memory", "object_store_memory"):
            names[resource["name"]] = float(resource["total"])
    return ClusterSeen(nodes=nodes, resources=names) if "Node status" in text else None
