"""What the entry counts, as Prometheus text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
BYTES = tuple(float(4**power << 8) for power in range(10))
"""256 bytes to 64 MiB."""


class EntryMetrics:
    """A registry of its own: the backend has another, and both are read as one."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "pdinfra_entry_requests",
            "Requests that ended, by path and status; 499: the client left first.",
            ("path", "status"),
            registry=self._registry,
        )
        self.broken = Counter(
            "pdinfra_entry_broken_answers",
            "Answers that broke off after their first byte.",
            registry=self._registry,
        )
        self.in_hand = Gauge(
            "pdinfra_entry_requests_in_hand",
            "Requests that are being answered.",
            registry=self._registry,
        )
        self.refused = Counter(
            "pdinfra_entry_refused_requests",
            "Requests that were refused because too many were in hand.",
            registry=self._registry,
        )
        self.seconds = Histogram(
            "pdinfra_entry_request_seconds",
            "From a request's head to the end of its answer.",
            ("path",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.first_byte_seconds = Histogram(
            "pdinfra_entry_first_byte_seconds",
            "From a request's head to the first byte of its answer.",
            ("path",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.body_bytes = Histogram(
            "pdinfra_entry_body_bytes",
            "Bodies of requests.",
            buckets=BYTES,
            registry=self._registry,
        )
        self.bodies_held = Gauge(
            "pdinfra_entry_bodies_held_bytes",
            "Bodies of the requests that are in hand.",
            registry=self._registry,
        )

    def text(self) -> bytes:
        """Return it in Prometheus' text format."""
        return generate_latest(self._registry)
