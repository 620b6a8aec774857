"""Run the steps of a load test: texts, readiness, maximum rate, warm-up, buckets, mixed lengths, conclusions.

The status is published after each step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Protocol

from toxicity_api.buckets import Bucket
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.artifacts import write_artifacts
from toxicity_loadtest.comparison import baseline_of, compare, offered
from toxicity_loadtest.conclusions import (
    Serving,
    capacity,
    conclude,
    max_length_at_requested_rps,
    mixed_capacity,
)
from toxicity_loadtest.corpus import Corpus, read_corpus
from toxicity_loadtest.errors import ArtifactsError, LoadTestError, NoSuccessError, PublishError
from toxicity_loadtest.figures import failure_summary, overall, served
from toxicity_loadtest.measurement import LoadGenerator, Measurement, Observation, WindowRunner
from toxicity_loadtest.publish import Publisher
from toxicity_loadtest.records import MIXED, WARMUP, Window, WindowOrder
from toxicity_loadtest.report import format_facts, format_table
from toxicity_loadtest.search import FINE
from toxicity_loadtest.service import wait_until_ready
from toxicity_loadtest.spill import succeeded
from toxicity_loadtest.trace import read_trace
from toxicity_store.artifacts import ArtifactStore

FINAL_PUBLISH_SECONDS = 30.0
RETRY_INTERVAL_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Creates the load generator."""

    def ceiling(self, corpus: Corpus) -> float | None:
        """Measure the maximum requests per second of the generator; None if that is not possible."""

    def generator(self, corpus: Corpus) -> AbstractContextManager[LoadGenerator]:
        """Open a generator that is ready to offer load. Raises LoadTestError."""


class ObservedGenerator:
    """A generator whose windows are followed by an observation of the serving pods."""

    def __init__(self, generator: LoadGenerator, observe: Callable[[int], None]) -> None:
        self._generator, self._observe = generator, observe

    def offer(self, order: WindowOrder) -> Window:
        window = self._generator.offer(order)
        self._observe(order.number)
        return window


class LoadTest:
    """One run. `status` has the figures measured so far."""

    def __init__(
        self,
        config: LoadTestConfig,
        publisher: Publisher,
        open_store: Callable[[], ArtifactStore],
        ready_seconds: float,
    ) -> None:
        """`open_store` provides the texts, and keeps the run's folder."""
        self._config, self._publisher, self._ready_seconds = config, publisher, ready_seconds
        self._open_store = open_store
        self._store: ArtifactStore | None = None
        self._measured: list[tuple[Bucket, Measurement]] = []
        self._mixed: Measurement | None = None
        self._runner: WindowRunner | None = None
        self._previous: LoadTestStatus | None = None
        self._observed: list[Observation] = []
        spec = config.load_test
        self.status = LoadTestStatus(
            fingerprint=config.fingerprint,
            run_id=spec.run_id,
            state="Running",
            mode=spec.mode,
            serving_fingerprint=config.serving_fingerprint or None,
            started_at=_now(),
            users=spec.open_limit,
            profile=spec.profile,
            arrivals="trace" if spec.trace else spec.arrival_times,
            workers=spec.workers,
            requested_rps=spec.requested_rps,
            route=spec.route,
            texts_per_request=spec.texts_per_request,
            bucket_unit=spec.bucket_unit,
            slo_p95_seconds=spec.slo.p95_seconds,
        )

    def run(self, engine: Engine) -> LoadTestStatus:
        """Run the load test and return the complete, published status. Raises LoadTestError."""
        config = self._config
        previous = self._publisher.previous()
        self._previous = self._comparable(previous)
        rolls_back = config.load_test.on_regression == "RollBack"
        self._update(baseline=baseline_of(previous, self.status.serving_fingerprint, rolls_back=rolls_back))
        self._publish_progress()
        self._store = self._open_store()
        corpus = read_corpus(config)
        trace = read_trace(config.trace_path) if config.trace_path else ()
        wait_until_ready(config.url, self._ready_seconds)
        self._update(generator_ceiling_rps=engine.ceiling(corpus))
        self._observe(0)
        self._update(replicas_at_start=self._observed[0].replicas)
        with engine.generator(corpus) as generator:
            self._runner = WindowRunner(
                ObservedGenerator(generator, self._observe),
                config.load_test,
                self.status.generator_ceiling_rps,
                config.seed,
                trace,
            )
            self._measure(self._runner, corpus)
        self._update(
            replicas_at_end=self._observed[-1].replicas,
            replicas_changed=len({seen.replicas for seen in self._observed}) > 1 or None,
        )
        self._add_totals(self._runner.windows)
        self._conclude(corpus)
        self._update(state="Complete", finished_at=_now())
        self._write_artifacts(self._runner.windows)
        self._publish_final(FINAL_PUBLISH_SECONDS)
        return self.status

    def fail(
        self, message: str, error: LoadTestError | None, publish_seconds: float = FINAL_PUBLISH_SECONDS
    ) -> None:
        """Publish the failure with the figures so far, then write them to the volume.

        Raises PublishError.
        """
        windows = list(self._runner.windows) if self._runner else []
        if error is not None and error.window is not None and error.window.order.name != WARMUP:
            windows.append(error.window)
        if windows:
            self._add_totals(windows)
        state = "Failed" if error is None else error.state
        partial = True if state == "Partial" else None
        self._update(state=state, message=message, partial=partial, finished_at=_now(), conclusions=None)
        self._publish_final(publish_seconds)
        if windows:
            self._write_artifacts(windows)

    def _measure(self, runner: WindowRunner, corpus: Corpus) -> None:
        spec = self._config.load_test
        if spec.warmup_seconds:
            warmup = runner.warm_up()
            self._update(warmup_requests=len(warmup.records))
            logger.info("warmup_done requests=%d", len(warmup.records))
        start = spec.requested_rps
        for bucket in corpus.buckets:
            measured = runner.measure(bucket.name, start)
            self._add(bucket, measured)
            if spec.mode == "search":
                start = measured.result.max_rps_within_slo or start
        capacities = [capacity(measured.result, spec)[0] for _, measured in self._measured]
        expected = mixed_capacity(corpus.shares(), capacities)
        if spec.mode == "search" and expected:
            self._mixed = runner.measure(MIXED, expected, FINE)
        else:
            self._mixed = runner.measure(MIXED, spec.slo.rps or spec.requested_rps)
        self._update(mixed=self._mixed.result)
        self._publish_progress()

    def _add(self, bucket: Bucket, measured: Measurement) -> None:
        result = measured.result
        self._measured.append((bucket, measured))
        self._update(buckets=[measured.result for _, measured in self._measured])
        logger.info("bucket_done bucket=%s requests=%d failures=%d", result.name, result.requests, result.failures)
        self._publish_progress()

    def _add_totals(self, windows: list[Window]) -> None:
        """Add the totals of the run. Rates and latencies come from the reported windows of the buckets."""
        measured = [measured for _, measured in self._measured]
        actual_rps, p95, p95_corrected = overall([each.window for each in measured])
        limited = [*measured, *([self._mixed] if self._mixed else [])]
        self._update(
            requests=sum(len(window.records) for window in windows),
            failures=sum(int((~succeeded(window.records)).sum()) for window in windows),
            failure_kinds=failure_summary(windows) or None,
            actual_rps=actual_rps,
            p95_seconds=p95,
            p95_corrected_seconds=p95_corrected,
            generator_saturated=any(each.generator_saturated for each in limited),
            users_exhausted=any(each.users_exhausted for each in limited),
            open_limit_reached=any(each.open_limit_reached for each in limited),
        )

    def _conclude(self, corpus: Corpus) -> None:
        spec, serving_deployment = self._config.load_test, self._publisher.serving_deployment()
        assert self._mixed is not None
        mean = served([self._mixed.window]).mean() if self._mixed.result.p95_seconds is not None else None
        results = [(bucket, measured.result) for bucket, measured in self._measured]
        self._update(
            max_length_at_requested_rps=max_length_at_requested_rps(results, spec),
            conclusions=None
            if self.status.replicas_changed
            else conclude(
                [result for _, result in results],
                corpus.shares(),
                (self._mixed.result, mean),
                spec,
                Serving(
                    self.status.replicas_at_end or 1,
                    serving_deployment.cpu_limit_over_request if serving_deployment else None,
                ),
                corpus.share_beyond(),
                self._previous,
            ),
        )
        self._update(comparison=compare(self.status.baseline, self.status))
        logger.info("result\n%s\n%s", format_table(self.status), format_facts(self.status))
        if self.status.p95_seconds is None:
            raise NoSuccessError(f"all requests failed: {self.status.failure_kinds}")

    def _comparable(self, previous: LoadTestStatus | None) -> LoadTestStatus | None:
        """Return the previous run if it measured the version that serves now, with the same load and objective."""
        if previous is None or previous.serving_fingerprint is None:
            return None
        is_same_version = previous.serving_fingerprint == self.status.serving_fingerprint
        return previous if is_same_version and offered(previous) == offered(self.status) else None

    def _observe(self, window: int) -> None:
        """Record the serving pods at the end of a window. Window 0 is before the first one."""
        deployment = self._publisher.serving_deployment()
        replicas = deployment.ready_replicas if deployment else None
        self._observed.append(Observation(window, replicas, self._publisher.pod_cpu()))

    def _write_artifacts(self, windows: list[Window]) -> None:
        """Write the artifacts. If that fails, the run still completes, since its figures are published."""
        assert self._store is not None
        folder = self._config.output_dir
        try:
            status = write_artifacts(
                folder, windows, self.status, self._config.load_test, self._store, self._observed
            )
        except ArtifactsError as error:
            logger.error("artifacts_not_written error=%s", error)
            self._update(message=self.status.message or str(error))
        else:
            self.status = status

    def _update(self, **fields: Any) -> None:
        self.status = self.status.model_copy(update=fields)

    def _publish_progress(self) -> None:
        """Publish the figures so far. A failure is only logged, since the next report contains them too."""
        try:
            self._publisher.publish(self.status)
        except PublishError as error:
            logger.warning("progress_not_published error=%s", error)

    def _publish_final(self, seconds: float) -> None:
        """Publish the last status, with retries for `seconds`. Raises PublishError."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._publisher.publish(self.status)
            except PublishError as error:
                if time.monotonic() >= deadline:
                    raise
                logger.warning("final_status_not_published error=%s", error)
            time.sleep(RETRY_INTERVAL_SECONDS)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
