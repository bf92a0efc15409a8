"""Plain measurements for the tests."""

from __future__ import annotations

from typing import Any

from pdinfra.bench.result import Measurement, Row, Tokens


def row(**changed: Any) -> Row:
    """Return a row of 3 groups of 4 prompts, half of each prompt shared."""
    return Row.model_validate(
        {
            "length": 500, "groups": 3, "prompts_per_group": 4, "prefix_words": 60,
            "suffix_words": 60, "seed": 42, "requests": 12, "failed": 0, "prompt_tokens": 498.5,
            "ttft_mean_ms": 200.0, "ttft_median_ms": 190.0, "ttft_p99_ms": 400.0,
            "requests_per_second": 4.0, "tokens_per_second": 2000.0, "seconds": 3.0,
            "prefill_tokens": Tokens(computed=4000, local=0, external=1982), "decode_tokens": None,
            **changed,
        }
    )  # fmt: skip


def measurement(*rows: Row, **changed: Any) -> Measurement:
    """Return a measurement of these rows."""
    return Measurement.model_validate(
        {
            "inventory": "inventories/a", "service": "pd", "stack": "yuanrong", "connector": "C",
            "model": "m", "addresses": ("10.0.0.1", "10.0.0.2"), "load_from": "a", "image": "i:1",
            "measured_at": "2026-11-21T20:00:00+00:00", "concurrency": 8, "output_tokens": 2,
            "prefix_caching": "off", "template": True, "rows": rows or (row(),),
            **changed,
        }
    )  # fmt: skip
