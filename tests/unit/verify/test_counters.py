"""vLLM's Prometheus text → prompt tokens by source."""

from __future__ import annotations

from pdinfra.verify.counters import prefix_caching, prompt_tokens

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
