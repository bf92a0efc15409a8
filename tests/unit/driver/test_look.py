"""A run's results as typed data; its failures as lines and an exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.doctor import examine
from pdinfra.driver.look import FAILED, INVALID, DriverError, look, proof, reasons
from pdinfra.driver.run import Failure, Run
from pdinfra.model.changes import document
from pdinfra.model.plan import Plan
from pdinfra.model.proof import Completion, Proof
from pdinfra.planning.changes import host_changes
from tests.unit.builders import NOW, converged, plan, problems


def compared(of: Plan) -> dict[str, Any]:
    """Return what the comparing action says of a converged service, as JSON brought it."""
    seen = {host.name: converged(host) for host in of.hosts}
    changes = [change for host in of.hosts for change in host_changes(host, seen[host.name])]
    found = {
        **document(changes),
        "plan": of.dump(),
        "facts": {name: facts.model_dump(mode="json") for name, facts in seen.items()},
        "checks": [check.model_dump(mode="json") for check in examine(of, seen, NOW)],
    }
    back: dict[str, Any] = json.loads(json.dumps(found))
    return back


def test_everything_that_a_run_saw_comes_back_typed() -> None:
    made = plan()
    run = Run(results={"pdinfra_plan": {"plan": made.dump()}, "pdinfra_changes": compared(made)})
    seen = look(run)
    assert seen.plan == made
    assert [change.action for change in seen.changes] == ["keep"] * 3
    assert seen.facts["a"] == converged(made.host("a"))
    assert {check.status for check in seen.checks} == {"ok"}


def test_plan_that_the_hosts_add_nothing_to_is_not_brought_twice() -> None:
    made = plan()
    found = {name: said for name, said in compared(made).items() if name != "plan"}
    run = Run(results={"pdinfra_plan": {"plan": made.dump()}, "pdinfra_changes": found})
    assert look(run).plan == made


def test_invalid_inventory_gives_every_line_and_the_code_2() -> None:
    found = problems(every={"pd_conector": "x", "pd_router_port": 1})
    run = Run(rc=2, results={"pdinfra_plan": {"pd_problems": [p.model_dump() for p in found]}})
    with pytest.raises(DriverError) as caught:
        look(run)
    assert caught.value.code == INVALID == 2
    assert caught.value.lines == [str(problem) for problem in found]
    assert len(caught.value.lines) == 2


def test_unreachable_host_gives_the_code_1_and_what_to_check() -> None:
    run = Run(
        rc=4,
        failures=[Failure("b", "unreachable", "Connection timed out")],
        results={"pdinfra_plan": {"plan": plan().dump()}},
    )
    with pytest.raises(DriverError) as caught:
        look(run)
    assert caught.value.code == FAILED == 1
    (line,) = caught.value.lines
    assert line.startswith("b: unreachable: Connection timed out. Fix: check ansible_host")


def test_same_failure_is_told_once() -> None:
    failure = Failure("a", "Build", "no space left")
    assert reasons(Run(rc=2, failures=[failure, failure])) == ["a: Build: no space left"]


def test_run_that_failed_outside_of_tasks_tells_ansibles_errors() -> None:
    run = Run(rc=1, output=["[WARNING]: x", "[ERROR]: couldn't parse the inventory", "more"])
    assert reasons(run) == ["[ERROR]: couldn't parse the inventory"]


def test_run_that_failed_with_other_words_tells_the_last_of_them() -> None:
    assert reasons(Run(rc=1, output=[str(n) for n in range(9)])) == ["4", "5", "6", "7", "8"]


def test_run_that_failed_without_a_word_tells_its_return_code() -> None:
    assert reasons(Run(rc=3)) == ["ansible-playbook ended with 3 and said nothing"]


def test_proof_comes_back_failed_or_not() -> None:
    made = Proof(ok=False, pairs=(), completion=Completion(prompt="x"), problems=("y",))
    run = Run(results={"pdinfra_verify": {"failed": True, "pd_proof": made.model_dump()}})
    assert proof(run) == made


@pytest.mark.parametrize("results", [{}, {"pdinfra_verify": {"skipped": True}}])
def test_run_that_did_not_come_to_verify_has_no_proof(results: dict[str, Any]) -> None:
    assert proof(Run(results=results)) is None
