"""Thin shell: prove the service with real requests from the controller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pdinfra.model.plan import Plan
from pdinfra.model.proof import StoreProof
from pdinfra.reading.host import container_facts
from pdinfra.verify.prove import prove
from pdinfra.verify.store import store_proof, with_count


class ActionModule(ActionBase):  # type: ignore[misc]
    """Send requests, read counters; changes nothing, so it is skipped in check mode."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the proof as ``pd_proof``; fail unless all of it holds.

        Arguments: ``patience``, seconds that the router may take to notice returned members.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            return {**result, "skipped": True, "msg": "nothing to prove in check mode"}
        variables = task_vars or {}
        plan = Plan.model_validate(variables["pd_planned"]["plan"])
        patience = float(self._task.args.get("patience", 0))
        store = _store(variables, plan)
        proof = prove(plan, _states(variables, plan), patience=patience, store=store)
        result |= {"changed": False, "pd_proof": proof.model_dump(mode="json")}
        if proof.ok:
            return result
        return {**result, "failed": True, "msg": "\n".join(proof.problems)}


def _store(variables: dict[str, Any], plan: Plan) -> StoreProof | None:
    """Judge what the probes of the data system brought, if there is one and it was probed."""
    if plan.store is None:
        return None

    def results(name: str) -> dict[str, Any]:
        found = {h.name: variables["hostvars"][h.name].get(name) or {} for h in plan.hosts}
        return {host: each for host, each in found.items() if each and not each.get("skipped")}

    token = str(variables.get("pd_store_token", ""))
    probes = ("pd_store_seen", "pd_store_written", "pd_store_read")
    proof = store_proof(plan.store, token, *(results(name) for name in probes))
    return with_count(proof, results("pd_counted")) if plan.cluster else proof


def _states(variables: dict[str, Any], plan: Plan) -> dict[str, str]:
    """Return, by id, why containers cannot answer, as far as they were observed in this run."""
    states = {}
    for host in plan.hosts:
        observed = variables["hostvars"][host.name].get("pd_observed") or {}
        if "raw" not in observed:
            continue
        found = {container.id: container for container in container_facts(observed["raw"])}
        for container in host.containers:
            fact = found.get(container.id)
            if fact is None:
                states[container.id] = f"not there (no container {container.name} on {host.name})"
            elif fact.state != "running":
                states[container.id] = f"{fact.state} on {host.name} (exit code {fact.exit_code})"
            elif fact.health != "healthy":
                states[container.id] = f"{fact.health} on {host.name}"
    return states
