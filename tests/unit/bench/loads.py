"""Plain results of `bench pd` for the tests."""

from __future__ import annotations

from typing import Any

from pdinfra.bench.pd_result import LoadRow, ServiceResult


def load(**changed: Any) -> LoadRow:
    """Return one load of 100 requests, all answered."""
    return LoadRow.model_validate(
        {
            "input_tokens": 128, "output_tokens": 16, "concurrency": 4, "words": 32, "seed": 42,
            "requests": 100, "failed": 0, "prompt_tokens": 128.5, "answer_tokens": 16.0,
            "ttft_median_ms": 100.0, "ttft_p99_ms": 200.0, "tpot_median_ms": 20.0,
            "tpot_p99_ms": 40.0, "requests_per_second": 2.0, "output_tokens_per_second": 32.0,
            "seconds": 50.0, "cached": 0.0,
            **changed,
        }
    )  # fmt: skip


def service(*loads: LoadRow, **changed: Any) -> ServiceResult:
    """Return a PD service's result of these loads."""
    return ServiceResult.model_validate(
        {
            "form": "pd", "inventory": "inventories/a", "service": "pd", "stack": "native",
            "connector": "C", "accelerator": "nvidia", "model": "m",
            "engines": {"prefill": 1, "decode": 1}, "cards": 2, "addresses": ("10.0.0.1",),
            "load_from": "a", "image": "i:1", "measured_at": "2026-11-21T20:00:00+00:00",
            "loads": loads or (load(),),
            **changed,
        }
    )  # fmt: skip


def mixed(*loads: LoadRow, **changed: Any) -> ServiceResult:
    """Return a mixed twin's result of these loads."""
    return service(*loads, **{"form": "mixed", "engines": {"mixed": 2}, **changed})
