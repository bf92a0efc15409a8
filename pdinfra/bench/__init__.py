"""Measure a running service as the guides do: their data, vLLM's own benchmark, its counters."""
