"""A run's results as typed data, and its failures as messages with exit codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pdinfra.driver.run import Failure, Run
from pdinfra.model.changes import Change
from pdinfra.model.checks import Check
from pdinfra.model.facts import ContainerFact, HostFacts, ServeFact
from pdinfra.model.plan import Plan
from pdinfra.model.problems import Problem
from pdinfra.model.proof import Proof
from pdinfra.reading.host import container_facts
from pdinfra.reading.ray import serve_fact

FAILED = 1
INVALID = 2


class DriverError(Exception):
    """A run that ended before it could do its work: every reason, and the exit code."""

    def __init__(self, lines: list[str], code: int) -> None:
        """Keep one line for each reason, and the code (1 a host's fault, 2 the inventory's)."""
        super().__init__("\n".join(lines))
        self.lines = lines
        self.code = code


@dataclass(frozen=True)
class Look:
    """What one run saw: the plan, the changes, the facts, the checks."""

    plan: Plan
    changes: list[Change]
    facts: dict[str, HostFacts]
    checks: list[Check]


def look(run: Run) -> Look:
    """Return what a run saw. Raises DriverError if it did not get so far."""
    plan = planned(run)
    compared = run.results.get("pdinfra_changes", {})
    if "facts" not in compared:
        raise DriverError(reasons(run), FAILED)
    return Look(
        # With what only the hosts know, where that is anything.
        plan=Plan.model_validate(compared["plan"]) if "plan" in compared else plan,
        changes=changes(compared),
        facts={h: HostFacts.model_validate(f) for h, f in compared["facts"].items()},
        checks=[Check.model_validate(check) for check in _checks(run, compared)],
    )


def findings(run: Run) -> list[Check]:
    """Return what the doctor found. Raises DriverError if the run did not get so far."""
    planned(run)
    found = run.results.get("pdinfra_doctor", {})
    if "checks" not in found:
        raise DriverError(reasons(run), FAILED)
    return [Check.model_validate(check) for check in found["checks"]]


def _checks(run: Run, compared: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the checks of one look, and those of the probes if the run came so far."""
    found: list[dict[str, Any]] = run.results.get("pdinfra_doctor", compared).get("checks", [])
    return found


def containers(run: Run) -> dict[str, tuple[ContainerFact, ...]]:
    """Return each host's containers as the run saw them last."""
    return {host: container_facts(raw) for host, raw in run.observed.items()}


def served(run: Run, plan: Plan) -> ServeFact | None:
    """Return what Ray Serve had when its head was looked at last; None without one."""
    return serve_fact(run.observed.get(plan.router.host, {}).get("serve"))


def planned(run: Run) -> Plan:
    """Return the plan alone. Raises DriverError with every problem of the inventory."""
    result = run.results.get("pdinfra_plan", {})
    if problems := result.get("pd_problems"):
        raise DriverError([str(Problem.model_validate(p)) for p in problems], INVALID)
    if "plan" not in result:
        raise DriverError(reasons(run), FAILED)
    return Plan.model_validate(result["plan"])


def changes(compared: dict[str, Any]) -> list[Change]:
    """Return the changes of a result of the comparing action."""
    return [Change.model_validate(row) for row in compared["changes"]]


def proof(run: Run) -> Proof | None:
    """Return what verify found in a run, if it came to that."""
    found = run.results.get("pdinfra_verify", {}).get("pd_proof")
    return Proof.model_validate(found) if found else None


def unproven(run: Run) -> bool:
    """Tell whether all that went wrong in a run is that the proof did not hold."""
    return all(failure.action == "pdinfra_verify" for failure in run.failures)


def reasons(run: Run) -> list[str]:
    """Return why a run failed, one line for each reason."""
    if run.failures:
        return list(dict.fromkeys(_reason(failure) for failure in run.failures))
    errors = [line for line in run.output if "ERROR" in line]
    return errors or run.output[-5:] or [f"ansible-playbook ended with {run.rc} and said nothing"]


def _reason(failure: Failure) -> str:
    """Return one failure with host, thing, cause and, where it is known, the fix."""
    if failure.task == "unreachable":
        fix = "check ansible_host, ansible_user, the SSH key and known_hosts; try `ssh` by hand"
        return f"{failure.host}: unreachable: {failure.message}. Fix: {fix}"
    return f"{failure.host}: {failure.task}: {failure.message}"
