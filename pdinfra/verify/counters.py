"""An engine's Prometheus text → the counters that tell where a prompt's KV came from."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

FAMILY = "vllm:prompt_tokens_by_source"
EXTERNAL = "external_kv_transfer"


def prompt_tokens(text: str) -> dict[str, int]:
    """Return prompt tokens by source: local_compute, local_cache_hit, external_kv_transfer.

    Source: vLLM 0.32 /metrics (measured); several engine cores are added up.
    """
    counts: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        if family.name != FAMILY:
            continue
        for sample in family.samples:
            if sample.name == f"{FAMILY}_total":
                source = sample.labels["source"]
                counts[source] = counts.get(source, 0) + int(sample.value)
    return counts
