"""The connector's counters in vLLM's log and in its Prometheus metrics."""

from __future__ import annotations

import dataclasses
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
)

# Name in the statistics and, with "vllm:yuanrong_" and "_total", in Prometheus.
COUNTERS = {
    "stored_blocks": "KV blocks stored in openYuanrong's data system.",
    "stored_bytes": "Bytes of KV stored in openYuanrong's data system.",
    "loaded_blocks": "KV blocks loaded from openYuanrong's data system.",
    "loaded_bytes": "Bytes of KV loaded from openYuanrong's data system.",
    "missing_blocks": "KV blocks that were found but gone when they were to be loaded.",
    "damaged_blocks": "KV blocks that were found truncated, foreign or corrupt, and removed.",
    "skipped_blocks": "KV blocks not looked up, loaded or stored because the data system failed.",
    "failures": "Calls of the data system that failed or were too slow.",
}


@dataclasses.dataclass
class YuanrongStats(KVConnectorStats):
    """Increments of the counters since the last report."""

    def reset(self) -> None:
        """Forget what was counted."""
        self.data = {}

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        """Add another worker's or step's increments."""
        for name, value in other.data.items():
            self.data[name] = self.data.get(name, 0) + value
        return self

    def reduce(self) -> dict[str, int | float]:
        """Return what the periodic log line says."""
        return {f"yuanrong {name}": value for name, value in self.data.items() if value}

    def is_empty(self) -> bool:
        """Return whether there is nothing to report."""
        return not any(self.data.values())


class YuanrongPromMetrics(KVConnectorPromMetrics):
    """``vllm:yuanrong_<counter>_total`` per engine."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Register the counters; the arguments are vLLM's."""
        super().__init__(*args, **kwargs)
        self._counters = {}
        for name, documentation in COUNTERS.items():
            family = self._counter_cls(
                name=f"vllm:yuanrong_{name}",
                documentation=documentation,
                labelnames=self._labelnames,
            )
            self._counters[name] = {
                engine: family.labels(*labels)
                for engine, labels in self.per_engine_labelvalues.items()
            }

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Add increments."""
        for name, value in transfer_stats_data.items():
            self._counters[name][engine_idx].inc(value)
