"""Prometheus metrics of the service, in a separate registry without the engine's metrics.

The names are a public interface: dashboards, the autoscaler and the load test read them.
docs/reference/service-metrics.md lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from toxicity_api.prompting import Prompt
from toxicity_serving.classifier import Score

OUTCOMES = ("ok", "client_error", "overloaded", "deadline", "cancelled", "server_error")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_TEXTS = (1, 2, 4, 8, 16, 32, 64)
_SCORES = tuple(step / 20 for step in range(1, 21))


@dataclass(frozen=True)
class RequestTimes:
    """Seconds that one request spent in each step. `queue` is the longest wait of one of its prompts."""

    tokenize: float
    queue: float
    engine: float


class Metrics:
    """Metrics of the routes that classify. Other paths (probes, docs, page) are not counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("toxicity_requests", "Classify requests by outcome.", ["outcome"])
        for outcome in OUTCOMES:
            self.requests.labels(outcome)
        self.duration = self._histogram(
            "toxicity_request_duration_seconds",
            "Time from the first to the last byte of a classify request.",
            _SECONDS,
        )
        self.tokenize_seconds = self._histogram(
            "toxicity_tokenize_seconds", "Time from admission to the prompts of a request.", _STEP_SECONDS
        )
        self.queue_seconds = self._histogram(
            "toxicity_queue_seconds", "Longest time that a prompt of a request waited for the engine.", _SECONDS
        )
        self.engine_seconds = self._histogram(
            "toxicity_engine_seconds", "Rest of the time until the scores of a request.", _SECONDS
        )
        self.in_flight = self._gauge("toxicity_requests_in_flight", "Classify requests being answered.")
        self.queue_depth = self._gauge(
            "toxicity_queue_depth", "Texts beyond maxNumSeqs that wait; a long text counts once per window."
        )
        self.batch_size = self._histogram("toxicity_batch_size", "Number of texts in a request.", _TEXTS)
        self.texts = self._counter("toxicity_texts", "Texts that were scored.")
        self.sentences = self._counter("toxicity_sentences", "Sentences that were scored beside their texts.")
        self.truncated_texts = self._counter("toxicity_truncated_texts", "Texts whose end was cut to fit.")
        self.windowed_texts = self._counter("toxicity_windowed_texts", "Texts scored in several windows.")
        self.prompt_tokens = self._counter("toxicity_prompt_tokens", "Tokens of the prompts that were scored.")
        self.score = self._histogram("toxicity_score", "p(toxic) of the texts.", _SCORES)
        self.label_token_misses = self._counter(
            "toxicity_label_token_misses", "Engine outputs that lack a label token."
        )
        self.ready = self._gauge("toxicity_ready", "1 while the service is ready.")
        self.start_seconds = self._gauge(
            "toxicity_start_seconds", "Time from the start of the engine to readiness; 0 until then."
        )

    def observe(self, prompts: Sequence[Sequence[Prompt]], scores: Sequence[Score], times: RequestTimes) -> None:
        """Count the scored texts of one request, and its times. The prompts beyond those of the texts are sentences."""
        self.tokenize_seconds.observe(times.tokenize)
        self.queue_seconds.observe(times.queue)
        self.engine_seconds.observe(times.engine)
        self.texts.inc(len(scores))
        self.sentences.inc(len(prompts) - len(scores))
        self.truncated_texts.inc(sum(score.truncated for score in scores))
        self.windowed_texts.inc(sum(score.windows > 1 for score in scores))
        self.prompt_tokens.inc(sum(len(prompt.ids) for windows in prompts for prompt in windows))
        self.batch_size.observe(len(scores))
        for score in scores:
            self.score.observe(score.value)

    def _counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, documentation, buckets=buckets, registry=self.registry)


def outcome_of(status: int | None) -> str:
    """Return the `outcome` label of an HTTP status; `status` is None for a request without a response."""
    if status in (408, 504):
        return "deadline"
    if status == 429:
        return "overloaded"
    if status is None or status >= 500:
        return "server_error"
    return "ok" if status < 400 else "client_error"
