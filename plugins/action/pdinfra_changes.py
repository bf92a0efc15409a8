"""Thin shell: the plan and the observed hosts → changes and each host's work order."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pdinfra.doctor import examine, failures, network, rank_tables
from pdinfra.doctor.reachable import reachable_checks
from pdinfra.model import changes as changes_model
from pdinfra.model.plan import Plan
from pdinfra.planning.compare import compare
from pdinfra.planning.finish import finish
from pdinfra.planning.trial import trial
from pdinfra.planning.work import publications
from pdinfra.reading.host import host_facts

OBSERVED = ("pd_observed", "pd_observed_spare")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Compare once for all observed hosts, on the controller."""

    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return changes, work, facts and checks; fail on what forbids to start anything.

        Arguments: ``mode`` is ``converge`` (refuses on failed checks), ``again`` (the same, after
        a stage that the checks had to wait for), ``look`` (only reports), ``doctor`` (reports,
        hosts that did not answer as well, and says what else to try) or ``down`` (removes every
        container of the service).
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        mode = self._task.args.get("mode", "converge")
        planned = Plan.model_validate(variables["pd_planned"]["plan"])
        facts = {
            host: host_facts(host, observed["raw"])
            for host in (host.name for host in planned.hosts)
            if "raw" in (observed := _observed(variables, host))
        }
        finished = finish(planned, facts)
        plan = finished.plan
        checks = examine(plan, facts, time.time())
        checks += network.interface_checks(planned, facts)
        checks += rank_tables.checks(plan, facts, finished.tables, finished.gaps)
        spare = {host.name for host in plan.hosts if host.spare}
        asked = _answers(plan, variables)
        if mode != "doctor":
            # The run has ended where any other host did not answer.
            asked = {host: message for host, message in asked.items() if host in spare and message}
        checks[:0] = reachable_checks(asked, spare)
        compared = compare(finished, facts, mode, check=self._task.check_mode)
        tried = trial(plan, facts, compared.changes, mode)
        converging = mode in ("converge", "again", "down")
        result |= {
            "changed": False,
            # The driver has the plan already: what facts changed of it is worth a second one.
            **({} if plan is planned else {"plan": plan.dump()}),
            "waves": compared.waves,
            # A second look reports what is left; the run's changes are those of the first.
            **({} if mode == "again" else changes_model.document(compared.changes)),
            "work": {host: order.model_dump(mode="json") for host, order in compared.work.items()},
            "todo": {
                host: [*(order.stages if converging else ()), *tried.stages(host)]
                for host, order in compared.work.items()
            },
            "trial": tried.model_dump(mode="json"),
            "publish": [i.model_dump(mode="json") for i in publications(compared.work.values())],
            "facts": {host: seen.model_dump(mode="json") for host, seen in facts.items()},
            "checks": [check.model_dump(mode="json") for check in checks],
        }
        for change in () if mode == "again" else compared.changes:
            line = f"{change.action:8} {change.kind} {change.id} on {change.host}: {change.reason}"
            Display().display(line, color=None if change.action == "keep" else "yellow")
        if mode not in ("converge", "again"):
            return result
        if not plan.convergeable:
            cause = f"stack {plan.stack} validates and plans, but its roles are not built yet"
            return {**result, "failed": True, "msg": f"{cause}; nothing was touched"}
        new_driver = {host for host, order in compared.work.items() if "driver" in order.stages}
        if bad := failures(checks, new_driver if mode == "converge" else ()):
            return {**result, "failed": True, "msg": "\n".join(str(check) for check in bad)}
        return result


def _answers(plan: Plan, variables: dict[str, Any]) -> dict[str, str]:
    """Return, by host that was asked, what went wrong; empty where nothing did."""
    asked = set(variables["ansible_play_hosts_all"])
    answers = {}
    for host in (host.name for host in plan.hosts if host.name in asked):
        observed = _observed(variables, host)
        message = str(observed.get("msg", "")).strip() or "it was not looked at"
        answers[host] = "" if "raw" in observed else message
    return answers


def _observed(variables: dict[str, Any], host: str) -> dict[str, Any]:
    """Return what the task that looked at a host registered; empty if none did."""
    found = (variables["hostvars"][host].get(name) or {} for name in OBSERVED)
    return next((dict(each) for each in found if each and not each.get("skipped")), {})
