"""`bench pd` on one service from end to end, with FAKE engines, a FAKE router and a FAKE load."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from pdinfra.bench import pd_measure as module
from pdinfra.bench.pd_measure import PdBench, measure
from pdinfra.bench.pd_result import ServiceResult
from pdinfra.bench.pd_wish import PdWish
from pdinfra.bench.serve import Job
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.model.plan import Plan
from pdinfra.planning.plan import build
from pdinfra.planning.twin import mixed_twin
from tests.unit.bench.test_ttft import TOKENS_PER_WORD, engine, metrics
from tests.unit.builders import ASSETS, inventory, plan
from tests.unit.verify.fakes import FakeServer, moved, serving, text

WISH = PdWish(((64, 8), (128, 4)), (1, 4), 8, 42, 10)
FOUND = {
    "completed": 8, "total_input_tokens": 512, "total_output_tokens": 64, "median_ttft_ms": 10.123,
    "p99_ttft_ms": 20, "median_tpot_ms": 2, "p99_tpot_ms": 4, "request_throughput": 4,
    "output_throughput": 32, "duration": 2,
}  # fmt: skip


class Service:
    """FAKE service of two engines and a router, and the load on it."""

    def __init__(self) -> None:
        self.first, self.second = FakeServer(engine), FakeServer(engine)
        self.router = FakeServer(lambda body: (200, text(" x")))
        self.first.metrics, self.second.metrics = metrics(0, 0, 0), metrics(0, 0, 0)
        self.jobs: list[Job] = []
        self.datasets: list[str] = []
        self.found: dict[str, Any] = dict(FOUND)
        self.hits = 0

    def load(self, job: Job, dataset: str, *rest: object) -> dict[str, Any]:
        self.jobs.append(job)
        self.datasets.append(dataset)
        n = len(self.jobs)
        self.first.metrics = metrics(n * (512 - self.hits), n * self.hits, 0)
        return self.found

    def measured(
        self,
        monkeypatch: pytest.MonkeyPatch,
        planned: Plan,
        form: Literal["pd", "mixed"] = "pd",
    ) -> ServiceResult:
        monkeypatch.setattr(module, "serve", self.load)
        with serving(self.first, self.second, self.router) as ports:
            return measure(
                PdBench(
                    form=form,
                    inventory="inventories/a",
                    plan=moved(planned, ports),
                    wish=WISH,
                    load_from="a",
                    image=None,
                    there=lambda host, words: list(words),
                    say=lambda line: None,
                    show=lambda line: None,
                )
            )


def twin() -> Plan:
    return build(mixed_twin(inventory()), ASSETS)


def test_each_load_is_a_row_and_answers_may_not_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    found = service.measured(monkeypatch, plan())
    assert [row.cell for row in found.loads] == list(WISH.cells)
    assert (found.engines, found.form) == ({"prefill": 1, "decode": 1}, "pd")
    assert [(job.concurrency, job.output_tokens) for job in service.jobs] == [
        (1, 8), (4, 8), (1, 4), (4, 4),
    ]  # fmt: skip
    assert all(job.ignore_eos and not job.template and job.seconds == 600 for job in service.jobs)
    first = found.loads[0]
    assert (first.ttft_median_ms, first.prompt_tokens, first.answer_tokens) == (10.12, 64.0, 8.0)
    assert first.words * TOKENS_PER_WORD == 64


def test_both_services_get_the_same_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = Service(), Service()
    pd = mine.measured(monkeypatch, plan())
    mixed = other.measured(monkeypatch, twin(), "mixed")
    assert mine.datasets == other.datasets
    assert len(set(mine.datasets)) == len(WISH.cells)
    assert [a.same for a in pd.loads] == [b.same for b in mixed.loads]
    assert (mixed.engines, mixed.connector) == ({"mixed": 2}, "none")


def test_every_engine_is_warm_and_by_no_measured_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.measured(monkeypatch, plan())
    warm = [body["prompt"] for body in service.router.seen]
    assert len(warm) == 2 + 4 + 2 + 4
    assert not any(prompt[:30] in data for prompt in warm for data in service.datasets)


def test_prompts_that_were_in_a_cache_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.hits = 256
    found = service.measured(monkeypatch, plan())
    assert [row.cached for row in found.loads] == [0.5] * 4


def test_unanswered_requests_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.found["completed"] = 6
    found = service.measured(monkeypatch, plan())
    assert [row.failed for row in found.loads] == [2] * 4
    assert not found.ok
    service.found["completed"] = 0
    with pytest.raises(DriverError, match="64x8 c1: none of 8 requests was answered"):
        service.measured(monkeypatch, plan())


def test_a_shape_that_the_model_does_not_take_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service()
    service.second.max_model_len = 100
    with pytest.raises(DriverError) as caught:
        service.measured(monkeypatch, plan())
    assert caught.value.code == INVALID
    assert not service.jobs


def test_a_service_that_does_not_answer_is_one_line_with_a_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service()
    service.router.answer = lambda body: (500, {})
    with pytest.raises(DriverError) as caught:
        service.measured(monkeypatch, plan())
    assert caught.value.code == FAILED
    assert "Fix: `status`" in caught.value.lines[0]


def test_a_result_of_another_vllm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    del service.found["median_tpot_ms"]
    with pytest.raises(DriverError, match="its result is not as vLLM"):
        service.measured(monkeypatch, plan())
