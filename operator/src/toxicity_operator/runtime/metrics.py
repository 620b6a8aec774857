"""Prometheus metrics of the operator, in a registry of their own: what the passes did, how long they took, what waits.

Their names are an interface: the chart's dashboard reads them. docs/reference/operator-metrics.md lists them.
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
"""The stage that an event speaks of, by the event's reason."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Waiting:
    """Since when resources wait for a pass. Safe to use from any thread; times are those of `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[Key, float] = {}

    def put(self, key: Key) -> None:
        """A trigger came; one that waits already keeps its place."""
        with self._lock:
            self._since.setdefault(key, self._clock())

    def take(self, key: Key) -> None:
        """A pass begins, which sees all that the triggers so far are about; or they were given up."""
        with self._lock:
            self._since.pop(key, None)

    def count(self) -> int:
        """How many resources wait."""
        with self._lock:
            return len(self._since)

    def age_seconds(self) -> float:
        """How long the oldest trigger has waited; 0 when none does."""
        with self._lock:
            return self._clock() - min(self._since.values()) if self._since else 0.0


class WatchAges(Collector):
    """How long ago a watch of each kind last succeeded; no kind while none is watched."""

    def __init__(self, ages: Callable[[], Mapping[str, float]]) -> None:
        self._ages = ages

    def collect(self) -> Iterator[GaugeMetricFamily]:
        told = "Time since a watch of the kind last succeeded."
        family = GaugeMetricFamily("toxicity_operator_watch_age_seconds", told, labels=["kind"])
        for kind, age in self._ages().items():
            family.add_metric([kind], age)
        yield family


class Metrics:
    """What the controller tells of its passes; safe to use from any thread."""

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

    def observe(self, key: Key, look: Callable[[Key], Outcome]) -> Outcome:
        """Passes over a resource with `look` and counts how that ended; what it raises is counted and goes on."""
        self.waiting.take(key)
        began = self._clock()
        outcome: Outcome | None = None
        try:
            outcome = look(key)
        finally:
            self._seconds.observe(self._clock() - began)
            self._count(outcome)
        return outcome

    def count_watch_failure(self, kind: str, error: ClusterError) -> None:
        """A list or a watch of the kind has failed."""
        self._watch_failures.labels(kind, watch_failure(error)).inc()

    def show_process(self, leads: Callable[[], bool], watch_ages: Callable[[], Mapping[str, float]]) -> None:
        """Has each scrape ask whether this process leads, and for the ages of its watches in seconds by kind."""
        self._gauge("leader", "1 when this process acts, 0 when it stands by.").set_function(leads)
        self.registry.register(WatchAges(watch_ages))

    def know(self, resources: int) -> None:
        """So many resources are looked after."""
        self._resources.set(resources)

    def serve(self, port: int) -> Callable[[], None]:
        """Answers GET /metrics on all addresses, of IPv4 and of IPv6, in a thread; what is returned ends it.

        Raises OSError.
        """
        anywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
        server, _ = start_http_server(port, anywhere, self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()

        return stop

    def _count(self, outcome: Outcome | None) -> None:
        """None: the pass raised."""
        self._reconciles.labels(outcome_of(outcome)).inc()
        if outcome is None:
            self._errors.labels("crash").inc()
            return
        if outcome.failure is not None:
            self._errors.labels(error_kind(outcome.failure)).inc()
        for stage in failed_stages(outcome.events):
            self._stage_failures.labels(stage).inc()

    def _counter(self, name: str, documentation: str, label: str, values: Iterable[str]) -> Counter:
        """With each value of the label at 0, so that the first increase is seen as one."""
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
    """The `kind` label: one of ERROR_KINDS. `refused` is a request that no retry cures."""
    if error.status >= 500:
        return "server_error"
    known = {0: "no_answer", 401: "forbidden", 403: "forbidden", 409: "conflict", 429: "throttled"}
    return known.get(error.status, "refused")


def watch_failure(error: ClusterError) -> str:
    """The `reason` label of a failed watch: `gone` when its place is forgotten, else a kind of error."""
    return "gone" if error.status == GONE else error_kind(error)


def failed_stages(events: Iterable[Event]) -> list[str]:
    """The stages that these events say have failed."""
    return [FAILURES[event.reason] for event in events if event.reason in FAILURES]
