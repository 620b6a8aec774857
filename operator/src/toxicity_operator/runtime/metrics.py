"""Prometheus metrics of the operator: outcome and duration of passes, the queue, and the watches.

The names are a public interface, which the dashboard uses. docs/reference/operator-metrics.md lists them.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from toxicity_api.types import Key
from toxicity_operator.decide.events import Event
from toxicity_operator.errors import ClusterError
from toxicity_operator.runtime.reconcile import Outcome

OUTCOMES = ("changed", "unchanged", "gone", "failed", "crashed")
ERROR_KINDS = ("no_answer", "forbidden", "conflict", "throttled", "server_error", "refused", "crash")
GONE = 410
FAILURES = {
    "TrainingFailed": "training",
    "QuantizationFailed": "quantization",
    "EvaluationFailed": "evaluation",
    "QualityRefused": "quality_gate",
    "RolledBack": "serving",
    "RollOutFailed": "serving",
    "LoadTestFailed": "load_test",
}
"""The failed stage by the reason of the Event."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Waiting:
    """The times since which resources wait for a pass, in seconds of `clock`. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[Key, float] = {}

    def put(self, key: Key) -> None:
        """Note a trigger. A resource that already waits keeps its time."""
        with self._lock:
            self._since.setdefault(key, self._clock())

    def take(self, key: Key) -> None:
        """Note that a pass starts, or that the triggers were dropped."""
        with self._lock:
            self._since.pop(key, None)

    def count(self) -> int:
        """The number of waiting resources."""
        with self._lock:
            return len(self._since)

    def age_seconds(self) -> float:
        """The age of the oldest trigger in seconds; 0 if none waits."""
        with self._lock:
            return self._clock() - min(self._since.values()) if self._since else 0.0


class WatchAges(Collector):
    """Collector of the time since a watch of each kind last succeeded. A standby process reports no kind."""

    def __init__(self, ages: Callable[[], Mapping[str, float]]) -> None:
        self._ages = ages

    def collect(self) -> Iterator[GaugeMetricFamily]:
        documentation = "Time since a watch of the kind last succeeded."
        family = GaugeMetricFamily("toxicity_operator_watch_age_seconds", documentation, labels=["kind"])
        for kind, age in self._ages().items():
            family.add_metric([kind], age)
        yield family


class Metrics:
    """The metrics of the operator process. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.waiting = Waiting(clock)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._reconciles = self._counter("reconciles", "Passes over a resource by outcome.", "outcome", OUTCOMES)
        self._errors = self._counter("errors", "Passes that failed, by the kind of error.", "kind", ERROR_KINDS)
        self._stage_failures = self._counter(
            "stage_failures", "Stages of resources that failed.", "stage", dict.fromkeys(FAILURES.values())
        )
        self._seconds = Histogram(
            "toxicity_operator_reconcile_seconds",
            "Time of one pass, without the time that its trigger waited.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._watch_failures = Counter(
            "toxicity_operator_watch_failures",
            "Watches that failed, by what they watch and why.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self._resources = self._gauge("resources", "ToxicityModels that the operator looks after.")
        self._gauge("queue_length", "Resources that wait for a pass.").set_function(self.waiting.count)
        self._gauge("queue_age_seconds", "Time that the oldest trigger has waited for its pass.").set_function(
            self.waiting.age_seconds
        )

    def observe(self, key: Key, run_pass: Callable[[Key], Outcome]) -> Outcome:
        """Reconcile a resource with `run_pass` and count the outcome. An exception is counted and raised again."""
        self.waiting.take(key)
        began = self._clock()
        outcome: Outcome | None = None
        try:
            outcome = run_pass(key)
        finally:
            self._seconds.observe(self._clock() - began)
            self._count(outcome)
        return outcome

    def count_watch_failure(self, kind: str, error: ClusterError) -> None:
        """Count a failed list or watch of the kind."""
        self._watch_failures.labels(kind, watch_failure(error)).inc()

    def show_process(self, leads: Callable[[], bool], watch_ages: Callable[[], Mapping[str, float]]) -> None:
        """Register callbacks for the leadership of this process and the age of its watches, in seconds by kind."""
        self._gauge("leader", "1 when this process acts, 0 when it stands by.").set_function(leads)
        self.registry.register(WatchAges(watch_ages))

    def know(self, resources: int) -> None:
        """Set the number of reconciled resources."""
        self._resources.set(resources)

    def serve(self, port: int) -> Callable[[], None]:
        """Serve GET /metrics on all IPv4 and IPv6 addresses in a thread. Return a function that stops it.

        Raises OSError if the port cannot be bound.
        """
        anywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
        server, _ = start_http_server(port, anywhere, self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()

        return stop

    def _count(self, outcome: Outcome | None) -> None:
        """Count an outcome; None means that the pass raised an exception."""
        self._reconciles.labels(outcome_of(outcome)).inc()
        if outcome is None:
            self._errors.labels("crash").inc()
            return
        if outcome.failure is not None:
            self._errors.labels(error_kind(outcome.failure)).inc()
        for stage in failed_stages(outcome.events):
            self._stage_failures.labels(stage).inc()

    def _counter(self, name: str, documentation: str, label: str, values: Iterable[str]) -> Counter:
        """A counter with every label value initialized to 0, so that Prometheus sees the first increase."""
        counter = Counter(f"toxicity_operator_{name}", documentation, [label], registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"toxicity_operator_{name}", documentation, registry=self.registry)


def outcome_of(outcome: Outcome | None) -> str:
    """The `outcome` label: one of OUTCOMES. `changed` means that the status was written."""
    if outcome is None:
        return "crashed"
    if outcome.failure is not None:
        return "failed"
    if outcome.gone:
        return "gone"
    return "changed" if outcome.wrote_status else "unchanged"


def error_kind(error: ClusterError) -> str:
    """The `kind` label: one of ERROR_KINDS. A retry does not help for `refused`."""
    if error.status >= 500:
        return "server_error"
    known = {0: "no_answer", 401: "forbidden", 403: "forbidden", 409: "conflict", 429: "throttled"}
    return known.get(error.status, "refused")


def watch_failure(error: ClusterError) -> str:
    """The `reason` label of a failed watch: `gone` if its resourceVersion has expired, else a kind of error."""
    return "gone" if error.status == GONE else error_kind(error)


def failed_stages(events: Iterable[Event]) -> list[str]:
    """The stages whose failure these events report."""
    return [FAILURES[event.reason] for event in events if event.reason in FAILURES]
