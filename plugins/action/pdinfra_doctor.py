"""Thin shell: what one look and the probes brought → every check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pdinfra.doctor import failures, npu_ping
from pdinfra.doctor.reach import checksum_checks, reach_checks
from pdinfra.doctor.shared_path import shared_path_checks
from pdinfra.model.checks import Check
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import Plan
from pdinfra.model.reach import Link
from pdinfra.model.shared_path import SharedProbe, Written


class ActionModule(ActionBase):  # type: ignore[misc]
    """Judge once for all hosts, on the controller."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return all checks.

        Arguments: ``refuse``, whether to fail on what forbids to start anything.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        plan = Plan.model_validate(variables["pd_planned"]["plan"])
        compared = variables["pd_compared"]
        facts = {h: HostFacts.model_validate(seen) for h, seen in compared["facts"].items()}
        checks = [Check.model_validate(check) for check in compared["checks"]]
        checks += reach_checks(
            plan,
            [Link.model_validate(link) for link in compared["trial"]["links"]],
            _results(variables, plan, "pd_connected", "connects"),
            _results(variables, plan, "pd_listening", "shut"),
            facts,
        )
        hashed = _results(variables, plan, "pd_hashed", "digests")
        # Its directory may have another name on every host.
        checks += checksum_checks(
            {
                host: {path.rpartition("/")[2]: digest for path, digest in files.items()}
                for host, files in hashed.items()
            }
        )
        checks += npu_ping.checks(plan, facts, _results(variables, plan, "pd_pinged", "results"))
        checks += shared_path_checks(
            plan,
            {h: SharedProbe.model_validate(p) for h, p in compared["trial"]["shared"].items()},
            {
                host: Written.model_validate(found)
                for host, found in _results(
                    variables, plan, "shared_path_written", "written"
                ).items()
            },
            _results(variables, plan, "shared_path_seen", "seen"),
        )
        result |= {"changed": False, "checks": [check.model_dump(mode="json") for check in checks]}
        new_driver = [host for host, work in compared["work"].items() if "driver" in work["stages"]]
        bad = failures(checks, new_driver)
        if bad and self._task.args.get("refuse", False):
            return {**result, "failed": True, "msg": "\n".join(str(check) for check in bad)}
        return result


def _results(variables: dict[str, Any], plan: Plan, registered: str, key: str) -> dict[str, Any]:
    """Return one field of a registered result, by host that has it."""
    found = {}
    for host in plan.hosts:
        result = variables["hostvars"][host.name].get(registered) or {}
        if key in result:
            found[host.name] = result[key]
    return found
