"""Prometheus metrics of the service, in a registry of their own so that an engine's metrics do not mix in."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OUTCOMES = ("ok", "client_error", "server_error")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


class Metrics:
    """What the classifying routes did. Other paths (probes, docs) are not counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "toxicity_requests", "Classify requests by outcome.", ["outcome"], registry=self.registry
        )
        for outcome in OUTCOMES:
            self.requests.labels(outcome)
        self.duration = Histogram(
            "toxicity_request_duration_seconds",
            "Time from the first to the last byte of a classify request.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "toxicity_requests_in_flight", "Classify requests being answered.", registry=self.registry
        )
        self.texts = Counter("toxicity_texts", "Texts that got a score.", registry=self.registry)
        self.truncated_texts = Counter(
            "toxicity_truncated_texts", "Texts whose end was cut to fit the model.", registry=self.registry
        )
        self.label_token_misses = Counter(
            "toxicity_label_token_misses",
            "Answers of the engine without both label tokens.",
            registry=self.registry,
        )
        self.ready = Gauge("toxicity_ready", "1 while the service is ready.", registry=self.registry)


def outcome_of(status: int | None) -> str:
    """The `outcome` label of an HTTP status; None when the request ended without an answer."""
    if status is None or status >= 500:
        return "server_error"
    return "ok" if status < 400 else "client_error"
