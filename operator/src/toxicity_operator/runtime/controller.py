"""When to reconcile: on every event of a resource or a child, and every so often; one pass per resource at a time.

A resource whose training runs is looked at more often, since its progress makes no event; so is one of which a pod is
new and has not started, since time alone tells that it waits, and mostly the pod does not say for what.

Passes run in threads, since the client blocks. Triggers that come during a pass make one more after it, which will see
everything that they are about. What failed is tried again soon, and then ever later (`retries.py`).
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
"""A pass mostly waits for the API server; whatever the number of cores, one of them at most works on passes."""


class Controller:
    """Owns the list of known resources and who of them is due; all of it goes with the resource."""

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
        """Begins the resync in the running event loop."""
        resync = self._repeat(self._settings.resync_seconds, self._known)
        progress = self._repeat(self._settings.progress_seconds, self._training)
        self._loops = [asyncio.create_task(resync, name="resync"), asyncio.create_task(progress, name="progress")]

    def is_alive(self) -> bool:
        """Whether the resync still runs."""
        return bool(self._loops) and not any(loop.done() for loop in self._loops)

    def knows(self, key: Key) -> bool:
        """Whether the resync looks at the resource."""
        return key in self._known

    def stop(self) -> None:
        """Ends the resync; passes that run are finished."""
        for loop in self._loops:
            loop.cancel()
        self._retries.stop()

    def finish(self) -> None:
        """Waits for the passes that run; none begins any more."""
        self._pool.shutdown(cancel_futures=True)

    def notify(self, key: Key) -> None:
        """Triggers without waiting; only in the event loop."""
        task = asyncio.create_task(self.trigger(key))
        self._tasks.add(task)
        task.add_done_callback(partial(self._notified, key))

    async def trigger(self, key: Key) -> None:
        """Passes over the resource until none is due; one that runs already makes one more at its end."""
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
        """Triggers what is in `keys` at the time, again and again; a few at once, so that events need not wait."""
        few = asyncio.Semaphore(RESYNC_WIDTH)

        async def look(key: Key) -> None:
            async with few:
                await self.trigger(key)

        while True:
            await asyncio.sleep(seconds)
            due = list(keys)
            results = await asyncio.gather(*map(look, due), return_exceptions=True)
            for key, result in zip(due, results, strict=True):
                if isinstance(result, BaseException):
                    _log_crash(key, result)


def _log_crash(key: Key, error: BaseException) -> None:
    logger.error("reconcile_crashed", extra={"namespace": key[0], "model": key[1]}, exc_info=error)
