"""Two measurements side by side: the maths, what is not comparable, what one must know."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdinfra.bench.compare import compare, comparison_notes, notes
from pdinfra.bench.result import Tokens
from pdinfra.driver.look import INVALID, DriverError
from tests.unit.bench.rows import measurement, row


def test_differences_are_percent_of_the_service_without() -> None:
    without = row(
        ttft_mean_ms=400.0, ttft_median_ms=200.0, ttft_p99_ms=400.0, requests_per_second=2.0
    )
    (found,) = compare(measurement(row()), measurement(without)).differences
    assert found.model_dump() == {
        "length": 500,
        "ttft_mean_percent": -50.0,
        "ttft_median_percent": -5.0,
        "ttft_p99_percent": 0.0,
        "requests_per_second_percent": 100.0,
    }


def test_lengths_that_only_one_has_are_left_out_and_told() -> None:
    long = row(length=1000, seed=43)
    found = compare(measurement(row(), long), measurement(row()))
    assert [change.length for change in found.differences] == [500]
    assert any("left out: 1000 tokens" in line for line in comparison_notes(found))


@pytest.mark.parametrize("changed", [{"seed": 7}, {"prefix_words": 61}, {"prompts_per_group": 5}])
def test_another_dataset_is_not_comparable(changed: dict[str, Any]) -> None:
    with pytest.raises(DriverError) as caught:
        compare(measurement(row()), measurement(row(**changed)))
    assert caught.value.code == INVALID
    assert "same dataset. Fix: measure both with the same --lengths" in caught.value.lines[0]


def test_everything_that_forbids_to_compare_is_told_at_once() -> None:
    with pytest.raises(DriverError) as caught:
        compare(measurement(), measurement(model="other", concurrency=1))
    assert [line.split(":")[0] for line in caught.value.lines] == ["model", "concurrency"]


def test_other_hosts_and_images_are_told() -> None:
    found = comparison_notes(compare(measurement(), measurement(addresses=("b",), image="i:2")))
    assert "Not the same hosts: 10.0.0.1, 10.0.0.2 with, b without." in found
    assert "Not the same image: i:1 with, i:2 without." in found


def test_notes_of_both_are_said_once_and_notes_of_one_name_it() -> None:
    found = comparison_notes(compare(measurement(prefix_caching="on"), measurement(row(failed=1))))
    assert len([line for line in found if "P99" in line]) == 1
    assert any(line.startswith("with: vLLM's own prefix cache") for line in found)
    assert any(line.startswith("without: 500 tokens: 1 of 12 requests failed") for line in found)


def test_a_cache_that_was_not_empty_is_found_out() -> None:
    cold = row(prefill_tokens=Tokens(computed=625, local=0, external=375))
    warm = row(prefill_tokens=Tokens(computed=20, local=0, external=980))
    assert not any("--seed" in line for line in notes(measurement(cold)))
    assert any("Use another --seed" in line for line in notes(measurement(warm)))


def test_unknown_hits_are_told_and_are_no_zero() -> None:
    found = measurement(row(prefill_tokens=None), prefix_caching="unknown")
    assert found.rows[0].hit_rate is None
    assert any("hit rate is unknown" in line for line in notes(found))


def test_the_document_is_json_and_failed_requests_make_it_not_ok() -> None:
    found = compare(measurement(), measurement(row(failed=2)))
    document = json.loads(json.dumps(found.document()))
    assert document["ok"] is False
    assert set(document) == {"ok", "with", "without", "differences", "notes"}
