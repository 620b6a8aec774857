"""The order of a run: texts, readiness, warm-up, buckets, conclusions; the status is published after each step."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from toxicity_api.buckets import Bucket
from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.corpus import build_corpus, read_texts
from toxicity_loadtest.errors import NoSuccessError, PublishError
from toxicity_loadtest.publish import Publisher
from toxicity_loadtest.readiness import wait_until_ready
from toxicity_loadtest.records import Window
from toxicity_loadtest.report import (
    bucket_result,
    failure_summary,
    format_table,
    generator_saturated,
    max_length_at_requested_rps,
    overall,
)

WARMUP = "warm-up"
FINAL_PUBLISH_SECONDS = 30.0
RETRY_INTERVAL_SECONDS = 2.0

logger = logging.getLogger(__name__)


class LoadGenerator(Protocol):
    """What a run needs of the generator."""

    def offer(self, bucket: str, texts: Sequence[str], seconds: float) -> Window:
        """Offers load for `seconds` and returns when each of its requests has ended."""


class LoadTest:
    """One run. `status` is at any time what was measured so far."""

    def __init__(self, config: LoadTestConfig, publisher: Publisher, ready_seconds: float) -> None:
        self._config, self._publisher, self._ready_seconds = config, publisher, ready_seconds
        self._windows: list[Window] = []
        self._results: list[tuple[Bucket, BucketResult]] = []
        spec = config.load_test
        self.status = LoadTestStatus(
            fingerprint=config.fingerprint,
            run_id=spec.run_id,
            state="Running",
            started_at=_now(),
            users=spec.users,
            requested_rps=spec.requested_rps,
        )

    def run(self, generator: LoadGenerator) -> LoadTestStatus:
        """Runs to the end and returns the complete status, which is published. Raises LoadTestError."""
        spec = self._config.load_test
        self._publish_progress()
        corpus = build_corpus(read_texts(self._config.texts_path), spec, self._config.seed)
        wait_until_ready(self._config.url, self._ready_seconds)
        self._update(replicas_at_start=self._publisher.ready_replicas())
        if corpus.warmup:
            warmup = generator.offer(WARMUP, corpus.warmup, spec.warmup_seconds)
            self._update(warmup_requests=len(warmup.records))
            logger.info("warmup_done requests=%d", len(warmup.records))
        for bucket, texts in corpus.buckets:
            self._add(bucket, generator.offer(bucket.name, texts, spec.seconds_per_bucket))
        self._conclude()
        self._publish_final()
        return self.status

    def fail(self, message: str) -> None:
        """Publishes that the run failed, with what was measured so far. Raises PublishError."""
        self._update(state="Failed", message=message, finished_at=_now())
        self._publish_final()

    def _add(self, bucket: Bucket, window: Window) -> None:
        result = bucket_result(window)
        self._windows.append(window)
        self._results.append((bucket, result))
        self._update(buckets=[result for _, result in self._results])
        logger.info("bucket_done bucket=%s requests=%d failures=%d", result.name, result.requests, result.failures)
        self._publish_progress()

    def _conclude(self) -> None:
        actual_rps, p95_seconds = overall(self._windows)
        self._update(
            actual_rps=actual_rps,
            p95_seconds=p95_seconds,
            max_length_at_requested_rps=max_length_at_requested_rps(self._results, self._config.load_test),
            replicas_at_end=self._publisher.ready_replicas(),
            generator_saturated=generator_saturated(self._windows),
        )
        failures = failure_summary([record for window in self._windows for record in window.records])
        logger.info("result\n%s\nfailures: %s", format_table(self.status), failures or "none")
        if p95_seconds is None:
            raise NoSuccessError(f"not one request succeeded: {failures}")
        self._update(state="Complete", finished_at=_now())

    def _update(self, **fields: Any) -> None:
        self.status = self.status.model_copy(update=fields)

    def _publish_progress(self) -> None:
        """A progress report that is lost is made good by the next one, so the load goes on."""
        try:
            self._publisher.publish(self.status)
        except PublishError as error:
            logger.warning("progress_not_published error=%s", error)

    def _publish_final(self) -> None:
        """The last report must arrive: tries again until a deadline."""
        deadline = time.monotonic() + FINAL_PUBLISH_SECONDS
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
