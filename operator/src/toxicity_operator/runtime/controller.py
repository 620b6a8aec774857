"""Schedules reconciliations: after every event of a resource or a child, and periodically.

At most one pass per resource runs at a time. Triggers during a pass cause one more pass after it. A resource with a
running training, or with a new pod that has not started, is reconciled more often, because its changes cause no event.

Passes run in threads, because the client blocks. A failed pass is retried with increasing delays (`retries.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from toxicity_api.types import Key
from toxicity_operator.errors import ClusterError, is_transient
from toxicity_operator.runtime.cluster import Cluster
from toxicity_operator.runtime.metrics import Metrics
from toxicity_operator.runtime.reconcile import Outcome, reconcile
from toxicity_operator.runtime.retries import Retries
from toxicity_operator.runtime.rollout_limiter import RolloutLimiter
from toxicity_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)


RESYNC_WIDTH = 2
PASSES_AT_ONCE = 8
"""Number of threads. A pass mostly waits for the API server, so this does not depend on the number of cores."""


class Controller:
    """Tracks the known resources and which of them are due. It forgets a resource once that is deleted."""

    def __init__(self, cluster: Cluster, settings: OperatorSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self.metrics = Metrics()
        self._known: set[Key] = set()
        self._due: set[Key] = set()
        self._running: set[Key] = set()
        self._training: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(PASSES_AT_ONCE, "pass")
        self._loops: list[asyncio.Task[None]] = []
        self._retries = Retries(self.notify)
        self._limiter = RolloutLimiter(settings.upgrades_at_once)

    def start(self) -> None:
        """Start the resync in the running event loop."""
        resync = self._repeat(self._settings.resync_seconds, self._known)
        progress = self._repeat(self._settings.progress_seconds, self._training)
        self._loops = [asyncio.create_task(resync, name="resync"), asyncio.create_task(progress, name="progress")]

    def is_alive(self) -> bool:
        """Whether the resync is running."""
        return bool(self._loops) and not any(loop.done() for loop in self._loops)

    def knows(self, key: Key) -> bool:
        """Whether the resource is part of the resync."""
        return key in self._known

    def stop(self) -> None:
        """Stop the resync. Running passes continue."""
        for loop in self._loops:
            loop.cancel()
        self._retries.stop()

    def finish(self) -> None:
        """Wait for the running passes, and start no more."""
        self._pool.shutdown(cancel_futures=True)

    def notify(self, key: Key) -> None:
        """Trigger a pass without waiting for it. Call it in the event loop."""
        task = asyncio.create_task(self.trigger(key))
        self._tasks.add(task)
        task.add_done_callback(partial(self._notified, key))

    async def trigger(self, key: Key) -> None:
        """Reconcile the resource until it is not due. If a pass is running, it is followed by one more."""
        self._due.add(key)
        self.metrics.waiting.put(key)
        if key in self._running:
            return
        self._running.add(key)
        self._known.add(key)
        try:
            while key in self._due:
                self._due.discard(key)
                self._note(key, await self._in_thread(key))
        finally:
            self._running.discard(key)
            self._due.discard(key)
            self.metrics.waiting.take(key)
            self.metrics.know(len(self._known))

    async def _in_thread(self, key: Key) -> Outcome:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self.metrics.observe, key, self._pass)

    def _notified(self, key: Key, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log_crash(key, error)

    def _note(self, key: Key, outcome: Outcome) -> None:
        for keys, belongs in (
            (self._known, not outcome.gone),
            (self._training, outcome.trains or outcome.is_settling),
        ):
            (keys.add if belongs else keys.discard)(key)
        self._retries.note(key, failed=outcome.failure is not None and not outcome.gone)

    def _pass(self, key: Key) -> Outcome:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            outcome = reconcile(self._cluster, self._settings, *key, now, self._limiter)
        except ClusterError as error:
            outcome = Outcome(failure=error)
        failure = outcome.failure
        if failure is not None:
            level = logging.WARNING if is_transient(failure) else logging.ERROR
            fields = {"namespace": key[0], "model": key[1], "problem": str(failure)}
            logger.log(level, "reconcile_failed", extra=fields)
        return outcome

    async def _repeat(self, seconds: float, keys: Collection[Key]) -> None:
        """Trigger all of `keys` every `seconds`. Only RESYNC_WIDTH run at once, so that events are not delayed."""
        few = asyncio.Semaphore(RESYNC_WIDTH)

        async def reconcile_one(key: Key) -> None:
            async with few:
                await self.trigger(key)

        while True:
            await asyncio.sleep(seconds)
            due = list(keys)
            results = await asyncio.gather(*map(reconcile_one, due), return_exceptions=True)
            for key, result in zip(due, results, strict=True):
                if isinstance(result, BaseException):
                    _log_crash(key, result)


def _log_crash(key: Key, error: BaseException) -> None:
    logger.error("reconcile_crashed", extra={"namespace": key[0], "model": key[1]}, exc_info=error)
