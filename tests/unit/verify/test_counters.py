"""vLLM's Prometheus text → prompt tokens by source."""

from __future__ import annotations

from pdinfra.verify.counters import External, external, prefix_caching, prompt_tokens

TEXT = """\
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="tiny-qwen2"} 90.0
# HELP vllm:prompt_tokens_by_source_total Number of prompt tokens by source.
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 3.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_cache_hit"} 0.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} 40.0
vllm:prompt_tokens_by_source_total{engine="1",model_name="m",source="external_kv_transfer"} 2.0
# HELP vllm:prompt_tokens_by_source_created Number of prompt tokens by source.
# TYPE vllm:prompt_tokens_by_source_created gauge
vllm:prompt_tokens_by_source_created{engine="0",model_name="m",source="local_compute"} 1.79e+09
"""


def test_tokens_are_counted_by_source_over_all_engine_cores() -> None:
    assert prompt_tokens(TEXT) == {
        "local_compute": 3,
        "local_cache_hit": 0,
        "external_kv_transfer": 42,
    }


def test_engine_that_counts_nothing_has_no_sources() -> None:
    assert prompt_tokens("") == {}
    assert prompt_tokens("# TYPE up gauge\nup 1\n") == {}


CONFIG = """\
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",enable_prefix_caching="%s",engine="0"} 1.0
"""


def test_an_engine_says_whether_its_own_prefix_cache_is_on() -> None:
    assert prefix_caching(CONFIG % "True") is True
    assert prefix_caching(CONFIG % "False") is False
    assert prefix_caching(TEXT) is None


HITS = """\
# HELP vllm:external_prefix_cache_hits_total External prefix cache hits.
# TYPE vllm:external_prefix_cache_hits_total counter
vllm:external_prefix_cache_hits_total{engine="0"} 5.0
vllm:external_prefix_cache_hits_total{engine="1"} 2.0
"""


def test_the_counter_by_source_goes_before_what_a_connector_promised() -> None:
    assert external(HITS + TEXT) == External("vllm:prompt_tokens_by_source", 42)
    assert external(HITS) == External("vllm:external_prefix_cache_hits", 7)


def test_a_counter_that_has_counted_nothing_is_one_nevertheless() -> None:
    header = "# TYPE vllm:prompt_tokens_by_source_total counter\n"
    assert external(header) == External("vllm:prompt_tokens_by_source", 0)


def test_an_older_vllm_counts_nothing_from_outside() -> None:
    local = """\
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total 90.0
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total 12.0
"""
    assert external(local) is None
