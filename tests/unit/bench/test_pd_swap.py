"""`bench pd` with a FAKE driver: what is brought up and down, in which order, whatever happens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pdinfra.bench.pd_compare import PdComparison
from pdinfra.bench.pd_measure import PdBench
from pdinfra.bench.pd_result import ServiceResult
from pdinfra.cli import bench_pd as module
from pdinfra.cli import swap
from pdinfra.driver.look import INVALID, DriverError
from pdinfra.driver.run import Failure, Run
from pdinfra.model.plan import Plan
from pdinfra.planning.plan import build
from pdinfra.planning.twin import mixed_twin
from tests.unit.bench.loads import mixed, service
from tests.unit.builders import ASSETS, inventory, plan

ALL = ["up pd", "measure pd", "down pd", "up mixed", "measure mixed", "down mixed", "up pd"]
PATH = Path("somewhere")


class Fleet:
    """FAKE driver and load: notes every step, and fails at ``broken``."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        broken: str = "",
        by: BaseException | None = None,
        pd: Plan | None = None,
    ) -> None:
        self.done: list[str] = []
        self.benches: list[PdBench] = []
        self.broken = broken
        self.by = by or DriverError(["it broke"], 1)
        self.plans = {"pd": pd or plan(), "mixed": build(mixed_twin(inventory()), ASSETS)}
        monkeypatch.setattr(swap, "run", self.run)
        monkeypatch.setattr(module, "measure", self.measure)
        monkeypatch.setattr(module, "connections", lambda inventory: {"a": {}})

    def note(self, step: str) -> None:
        self.done.append(step)
        if step == self.broken:
            raise self.by

    def run(
        self, playbook: str, inventory: Path, limit: None, *, variables: Mapping[str, Any]
    ) -> Run:
        form = "mixed" if variables.get("pd_twin") else "pd"
        run = Run(results={"pdinfra_plan": {"plan": self.plans[form].dump()}})
        if playbook == "playbooks/validate.yml":
            return run
        step = f"{'up' if playbook == 'site.yml' else 'down'} {form}"
        self.done.append(step)
        if step == self.broken:
            run.rc = 2
            run.failures.append(Failure("a", step, "it broke"))
        return run

    def measure(self, bench: PdBench) -> ServiceResult:
        self.benches.append(bench)
        self.note(f"measure {bench.form}")
        return service() if bench.form == "pd" else mixed()

    def both(self, save: Path | None = None) -> PdComparison:
        asked = module._Asked(None, "1,4", None, 42, 10)
        return module._measured(PATH, asked, None, save, yes=True)


def test_pd_is_measured_first_then_its_twin_in_its_place_and_pd_comes_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet = Fleet(monkeypatch)
    found = fleet.both(tmp_path / "a.json")
    assert fleet.done == ALL
    assert (found.pd.form, found.mixed.form) == ("pd", "mixed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-mixed.json", "a.json"]


def test_both_get_the_same_load_from_the_same_host(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch)
    fleet.both()
    pd, twin = fleet.benches
    assert (pd.wish, pd.load_from) == (twin.wish, twin.load_from)
    assert pd.wish.shapes == ((128, 4), (64, 16), (16, 32))
    assert twin.container.id == "mixed-a-0"


@pytest.mark.parametrize("broken", ["up mixed", "measure mixed"])
def test_pd_comes_back_when_the_twin_fails(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    fleet = Fleet(monkeypatch, broken)
    with pytest.raises(DriverError, match="it broke"):
        fleet.both()
    assert fleet.done[-2:] == ["down mixed", "up pd"]


def test_pd_comes_back_after_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch, "measure mixed", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fleet.both()
    assert fleet.done == ALL


@pytest.mark.parametrize("broken", ["up pd", "measure pd"])
def test_nothing_is_swapped_if_pd_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    fleet = Fleet(monkeypatch, broken)
    with pytest.raises(DriverError):
        fleet.both()
    assert fleet.done[-1] == broken


def test_what_up_cannot_bring_up_is_refused_before_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(monkeypatch, pd=plan().model_copy(update={"convergeable": False}))
    with pytest.raises(DriverError) as caught:
        fleet.both()
    assert caught.value.code == INVALID
    assert fleet.done == []
