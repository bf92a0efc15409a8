"""Two services in one place: one goes before the other comes, and the first comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pdinfra.bench.wish import Wish
from pdinfra.cli import swap
from pdinfra.cli import ttft as module
from pdinfra.driver.look import DriverError
from pdinfra.driver.run import Failure, Run
from pdinfra.model.plan import Plan
from tests.unit.bench.rows import measurement
from tests.unit.builders import plan

WISH = Wish((500,), 3, 4, 50, 42, 8, 2, 30)
MINE, OTHER = Path("mine"), Path("other")
SWAPPED = ["measure mine", "down mine", "up other", "measure other", "down other", "up mine"]


class Fleet:
    """FAKE driver: notes what is done to which inventory, and fails at ``broken``."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        folder: Path,
        broken: str = "",
        by: BaseException | None = None,
    ) -> None:
        self.by = by
        self.done: list[str] = []
        self.broken = broken
        for inventory in (MINE, OTHER):
            (folder / inventory).mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(module, "plan_of", lambda side: plan())
        monkeypatch.setattr(module, "_one", self.measure)
        monkeypatch.setattr(swap, "run", self.run)

    def measure(self, inventory: Path, planned: Plan, *rest: Any) -> Any:
        self.note(f"measure {inventory}")
        return measurement(inventory=str(inventory))

    def note(self, step: str) -> None:
        self.done.append(step)
        if step == self.broken:
            raise self.by or DriverError([f"{step} broke"], 1)

    def run(self, playbook: str, inventory: Path, limit: None, *, variables: object) -> Run:
        step = f"{'up' if playbook == 'site.yml' else 'down'} {inventory}"
        self.done.append(step)
        run = Run(results={"pdinfra_plan": {"plan": plan().dump()}})
        if step == self.broken and self.by:
            raise self.by
        if step == self.broken:
            run.rc = 2
            run.failures.append(Failure("a", step, "it broke"))
        return run

    def both(self) -> Any:
        return module._both(MINE, OTHER, WISH, None, None, yes=True)


def test_both_are_measured_and_the_first_comes_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet = Fleet(monkeypatch, tmp_path)
    found = fleet.both()
    assert fleet.done == SWAPPED
    assert (found.first.inventory, found.second.inventory) == ("mine", "other")


@pytest.mark.parametrize("broken", ["up other", "measure other"])
def test_the_first_comes_back_when_the_other_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str
) -> None:
    fleet = Fleet(monkeypatch, tmp_path, broken)
    with pytest.raises(DriverError, match="broke"):
        fleet.both()
    assert fleet.done[-2:] == ["down other", "up mine"]


def test_the_first_comes_back_after_ctrl_c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fleet = Fleet(monkeypatch, tmp_path, "measure other", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fleet.both()
    assert fleet.done[-2:] == ["down other", "up mine"]


def test_ctrl_c_on_the_way_back_leaves_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet = Fleet(monkeypatch, tmp_path, "up mine", KeyboardInterrupt())
    said: list[str] = []
    monkeypatch.setattr(swap, "say", said.append)
    with pytest.raises(KeyboardInterrupt):
        fleet.both()
    assert said[-1] == "stopped: mine is not up. Fix: python -m pdinfra up -i mine"


def test_nothing_is_touched_if_the_first_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet = Fleet(monkeypatch, tmp_path, "measure mine")
    with pytest.raises(DriverError):
        fleet.both()
    assert fleet.done == ["measure mine"]


def test_a_first_that_does_not_come_back_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet = Fleet(monkeypatch, tmp_path, "up mine")
    with pytest.raises(DriverError) as caught:
        fleet.both()
    assert caught.value.lines[-1] == "mine is not up. Fix: python -m pdinfra up -i mine"


def test_a_service_that_cannot_be_brought_up_or_compared_is_refused() -> None:
    changed = {"convergeable": False, "stack": "ray", "model_name": "other"}
    lines = module._not_swappable(plan(), plan().model_copy(update=changed), OTHER)
    assert ["serves other" in lines[0], "stack ray" in lines[1]] == [True, True]
    assert all("Fix: " in line for line in lines)
