"""An engine's Prometheus text → the counters that tell where a prompt's KV came from."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

FAMILY = "vllm:prompt_tokens_by_source"
PROMISED = "vllm:external_prefix_cache_hits"
"""What a connector said that it would bring; a transfer that then fails is counted as well.

Source: vLLM PR 26245 (2025-10; it came before FAMILY, PR 33290 of 2026-02) and PR 30522.
"""
COMPUTED = "local_compute"
LOCAL = "local_cache_hit"
EXTERNAL = "external_kv_transfer"
CACHE_CONFIG = "vllm:cache_config_info"


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


@dataclass(frozen=True)
class External:
    """Prompt tokens whose KV came from another engine, by the best counter that there is."""

    counter: str
    tokens: int


def external(text: str) -> External | None:
    """Return the tokens from outside; None: this vLLM has no counter that tells."""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    if FAMILY in families:
        return External(FAMILY, prompt_tokens(text).get(EXTERNAL, 0))
    if PROMISED in families:
        total = sum(s.value for s in families[PROMISED].samples if s.name == f"{PROMISED}_total")
        return External(PROMISED, int(total))
    return None


def prefix_caching(text: str) -> bool | None:
    """Tell whether an engine keeps prompts in its own prefix cache; None if it does not say.

    Source: vLLM 0.32 /metrics, vllm:cache_config_info (measured).
    """
    for family in text_string_to_metric_families(text):
        if family.name != CACHE_CONFIG:
            continue
        for sample in family.samples:
            if "enable_prefix_caching" in sample.labels:
                return str(sample.labels["enable_prefix_caching"]) == "True"
    return None
