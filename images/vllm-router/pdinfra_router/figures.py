"""Prometheus metrics of the router's own."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pdinfra_router.seats import Seat

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""From a cached prompt's prefill to that of 100,000 tokens."""


class Figures:
    """Counts what happens; no label is ever of a client's making."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "pdinfra_router_requests",
            "Requests that ended, by what the client got: an answer's class, broken or cancelled",
            ("outcome",),
            registry=self._registry,
        )
        self.retries = Counter(
            "pdinfra_router_retries",
            "Tries that failed before an answer began, by the member that failed",
            ("member",),
            registry=self._registry,
        )
        self.ejections = Counter(
            "pdinfra_router_ejections",
            "Times a member that served was taken out",
            ("member",),
            registry=self._registry,
        )
        self.prefill_seconds = Histogram(
            "pdinfra_router_prefill_seconds",
            "From sending a completion to prefill until its answer",
            buckets=SECONDS,
            registry=self._registry,
        )
        self.first_byte_seconds = Histogram(
            "pdinfra_router_first_byte_seconds",
            "From a completion's arrival until the first byte of its answer",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._in_hand = Gauge(
            "pdinfra_router_member_in_hand",
            "Requests that a member was chosen for and that have not ended",
            ("member", "role"),
            registry=self._registry,
        )
        self._serving = Gauge(
            "pdinfra_router_member_serving",
            "Whether a member gets new requests",
            ("member", "role"),
            registry=self._registry,
        )

    def text(self, seats: Iterable[Seat]) -> bytes:
        """Return the metrics with those of the members now."""
        self._in_hand.clear()
        self._serving.clear()
        for seat in seats:
            labels = seat.member.id, seat.member.role
            self._in_hand.labels(*labels).set(seat.busy)
            self._serving.labels(*labels).set(seat.serving)
        return generate_latest(self._registry)
