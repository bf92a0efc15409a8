"""What Ray Serve has against what it is to have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Step = Literal["clear", "deploy", ""]
"""What is to be done next; empty: nothing."""


def step(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Step:
    """Return what makes Serve as wanted. Both as the REST API has them.

    Where the entry listens cannot be changed (Ray 2.60 keeps it until Serve ends): all of it goes
    first, and comes anew.
    """
    running = found.get("applications") or {}
    entry = found.get("http_options") or {}
    moved = any(entry.get(name) != value for name, value in wanted["http_options"].items())
    if entry and moved:
        return "clear"
    for application in wanted["applications"]:
        mine = running.get(application["name"]) or {}
        if mine.get("deployed_app_config") != application or mine.get("status") == "DEPLOY_FAILED":
            return "deploy"
    return ""


def gap(found: Mapping[str, Any]) -> str:
    """Return why requests cannot be answered; empty if they can.

    One replica of each deployment is enough: those that are missing start meanwhile. Until all are
    there the first time the application is still being deployed.
    """
    running = found.get("applications") or {}
    if not running:
        return "there is no application"
    for name, application in running.items():
        status = application.get("status")
        if status not in ("RUNNING", "UNHEALTHY"):
            return f"{name} is {status}: {application.get('message') or _starting(application)}"
        for title, deployment in (application.get("deployments") or {}).items():
            states = [replica.get("state") for replica in deployment.get("replicas") or []]
            if "RUNNING" not in states:
                return f"no replica of {title} runs"
    return ""


def _starting(application: Mapping[str, Any]) -> str:
    """Return how many replicas run, in words."""
    counts = [
        f"{title} {sum(r.get('state') == 'RUNNING' for r in each.get('replicas') or [])}"
        f"/{each.get('target_num_replicas')}"
        for title, each in (application.get("deployments") or {}).items()
    ]
    return ", ".join(counts) or "it is being built"
