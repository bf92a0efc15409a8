"""A measurement from end to end, with FAKE engines, a FAKE router and a FAKE load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pdinfra.bench import ttft as module
from pdinfra.bench.engines import load_host
from pdinfra.bench.result import Measurement
from pdinfra.bench.serve import Job
from pdinfra.bench.ttft import Bench, measure
from pdinfra.bench.wish import Wish
from pdinfra.driver.look import FAILED, INVALID, DriverError
from pdinfra.model.plan import Plan
from tests.unit.builders import TWO_HOSTS, plan
from tests.unit.verify.fakes import Answer, FakeServer, moved, serving, text

WISH = Wish((500, 1000), 3, 4, 50, 42, 2, 2, 30)
TOKENS_PER_WORD = 4
SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
FOUND = {
    "completed": 12, "total_input_tokens": 6000, "mean_ttft_ms": 200.123, "median_ttft_ms": 190,
    "p99_ttft_ms": 400, "request_throughput": 4, "total_token_throughput": 2000, "duration": 3,
}  # fmt: skip


def metrics(*counts: int, caching: str = "True") -> str:
    name = "vllm:prompt_tokens_by_source_total"
    return "\n".join(
        [
            f"# TYPE {name} counter",
            *(f'{name}{{source="{s}"}} {n}' for s, n in zip(SOURCES, counts, strict=True)),
            "# TYPE vllm:cache_config_info gauge",
            f'vllm:cache_config_info{{enable_prefix_caching="{caching}"}} 1',
            "",
        ]
    )


def engine(body: dict[str, Any]) -> Answer:
    """FAKE engine that tokenizes and has no chat template."""
    if "messages" in body:
        return 400, {"error": "no chat template"}
    return 200, {"count": TOKENS_PER_WORD * len(body["prompt"].split(" "))}


class Service:
    """FAKE service of one prefill, one decode and a router, and the load on it."""

    def __init__(self) -> None:
        self.prefill, self.decode = FakeServer(engine), FakeServer(engine)
        self.router = FakeServer(lambda body: (200, text(" x")))
        self.prefill.metrics, self.decode.metrics = metrics(7, 7, 7), metrics(0, 0, 0)
        self.jobs: list[Job] = []
        self.datasets: list[str] = []
        self.found = dict(FOUND)
        self.url = ""

    def load(
        self, job: Job, dataset: str, there: object, show: Callable[[int, int], None]
    ) -> dict[str, Any]:
        self.jobs.append(job)
        self.datasets.append(dataset)
        n = len(self.jobs)
        self.prefill.metrics = metrics(7 + n * 4000, 7, 7 + n * 2000)
        self.decode.metrics = metrics(0, 0, n * 6000)
        return self.found

    @contextmanager
    def up(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
        monkeypatch.setattr(module, "serve", self.load)
        with serving(self.prefill, self.decode, self.router) as ports:
            self.url = f"http://127.0.0.1:{ports[-1]}"
            yield moved(plan(), ports)

    def measured(self, monkeypatch: pytest.MonkeyPatch, wish: Wish = WISH) -> Measurement:
        with self.up(monkeypatch) as planned:
            return measure(
                Bench(
                    inventory="inventories/a",
                    plan=planned,
                    wish=wish,
                    image=None,
                    there=lambda host, words: list(words),
                    say=lambda line: None,
                    show=lambda line: None,
                )
            )


def test_each_length_is_measured_and_its_tokens_are_counted_by_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Service().measured(monkeypatch)
    assert [row.length for row in found.rows] == [500, 1000]
    for row in found.rows:
        assert row.prefill_tokens is not None
        assert (
            row.prefill_tokens.computed,
            row.prefill_tokens.local,
            row.prefill_tokens.external,
        ) == (4000, 0, 2000)
        assert row.decode_tokens is not None
        assert row.decode_tokens.external == 6000
        assert row.hit_rate == pytest.approx(1 / 3)
        assert (row.ttft_mean_ms, row.prompt_tokens, row.failed) == (200.12, 500.0, 0)
    assert (found.prefix_caching, found.template, found.stack) == ("on", False, "native")


def test_the_load_goes_to_the_services_own_router_with_prompts_of_the_asked_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service()
    found = service.measured(monkeypatch)
    assert {job.url for job in service.jobs} == {service.url}
    assert not service.jobs[0].template
    assert service.jobs[0].seconds == 1800
    for row, data in zip(found.rows, service.datasets, strict=True):
        assert len(data.splitlines()) == 12
        assert TOKENS_PER_WORD * (row.prefix_words + row.suffix_words) == row.length


def test_warm_up_prompts_are_none_of_the_measured_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.measured(monkeypatch)
    warm = [body["prompt"] for body in service.router.seen]
    assert len(warm) == WISH.concurrency * 2
    assert not any(prompt[:30] in data for prompt in warm for data in service.datasets)


def test_a_length_that_the_model_does_not_take_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service()
    service.decode.max_model_len = 900
    with pytest.raises(DriverError) as caught:
        service.measured(monkeypatch)
    assert caught.value.code == INVALID
    assert caught.value.lines[0].startswith("--lengths 1000: the model takes 900 tokens")
    assert not service.jobs
    assert not service.router.seen


def test_engines_that_count_nothing_give_no_hit_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()

    def load(*args: object) -> dict[str, Any]:
        return FOUND

    service.prefill.metrics = service.decode.metrics = ""
    service.load = load  # type: ignore[method-assign,assignment]
    found = service.measured(monkeypatch)
    assert [row.hit_rate for row in found.rows] == [None, None]
    assert found.prefix_caching == "unknown"


def test_a_service_that_does_not_answer_is_one_line_with_a_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service()
    service.router.answer = lambda body: (500, {})
    with pytest.raises(DriverError) as caught:
        service.measured(monkeypatch)
    assert caught.value.code == FAILED
    (line,) = caught.value.lines
    assert line.startswith("service pd: http://127.0.0.1:")
    assert "Fix: `status`" in line
    assert not service.jobs


def test_no_answered_request_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.found["completed"] = 0
    with pytest.raises(DriverError, match="none of 12 requests was answered"):
        service.measured(monkeypatch)


def test_failed_requests_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    service.found["completed"] = 10
    found = service.measured(monkeypatch)
    assert [row.failed for row in found.rows] == [2, 2]
    assert not found.ok


def test_the_load_comes_from_the_routers_host_if_it_has_an_engine_else_not_from_prefill() -> None:
    assert load_host(plan(TWO_HOSTS))[0].name == "a"
    apart = plan({"prefill": ["a"], "decode": ["b"], "router": ["c"]})
    host, container = load_host(apart)
    assert (host.name, container.id) == ("b", "decode-b-0")
    assert host.models[0].path in [mount.source for mount in container.spec.mounts]
