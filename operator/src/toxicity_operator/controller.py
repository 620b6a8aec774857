"""When to reconcile: on every event of a resource or a child, and every so often; one pass per resource at a time.

A resource whose training runs is looked at more often, since its progress makes no event.

Passes run in threads, since the client blocks. A trigger that comes while another one already waits is dropped:
the waiting pass will see everything that this one would. What failed is tried again at the next resync.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from datetime import UTC, datetime

from toxicity_operator.errors import ClusterError, is_transient
from toxicity_operator.reconcile import Cluster, Outcome, reconcile
from toxicity_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a resource."""


class Controller:
    """Owns the locks and the list of known resources; they go with the resource."""

    def __init__(self, cluster: Cluster, settings: OperatorSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._locks: dict[Key, asyncio.Lock] = {}
        self._waiting: set[Key] = set()
        self._training: set[Key] = set()
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins the resync in the running event loop."""
        resync = self._repeat(self._settings.resync_seconds, self._locks.keys())
        progress = self._repeat(self._settings.progress_seconds, self._training)
        self._loops = [asyncio.create_task(resync, name="resync"), asyncio.create_task(progress, name="progress")]

    def is_alive(self) -> bool:
        """Whether the resync still runs."""
        return bool(self._loops) and not any(loop.done() for loop in self._loops)

    def knows(self, key: Key) -> bool:
        """Whether the resync looks at the resource."""
        return key in self._locks

    def stop(self) -> None:
        """Ends the resync; passes that run are finished."""
        for loop in self._loops:
            loop.cancel()

    async def trigger(self, key: Key) -> None:
        """One pass over the resource, unless one that has not begun yet will do."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        try:
            async with self._locks.setdefault(key, asyncio.Lock()):
                self._waiting.discard(key)
                outcome = await asyncio.to_thread(self._pass, key)
        finally:
            self._waiting.discard(key)
        if outcome.trains:
            self._training.add(key)
        else:
            self._training.discard(key)
        if outcome.gone:
            self._locks.pop(key, None)

    def _pass(self, key: Key) -> Outcome:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            outcome = reconcile(self._cluster, self._settings, *key, now)
        except ClusterError as error:
            outcome = Outcome(failure=error)
        failure = outcome.failure
        if failure is not None:
            level = logging.WARNING if is_transient(failure) else logging.ERROR
            fields = {"namespace": key[0], "model": key[1], "problem": str(failure)}
            logger.log(level, "reconcile_failed", extra=fields)
        return outcome

    async def _repeat(self, seconds: float, keys: Collection[Key]) -> None:
        """Triggers what is in `keys` at the time, again and again."""
        while True:
            await asyncio.sleep(seconds)
            due = list(keys)
            results = await asyncio.gather(*map(self.trigger, due), return_exceptions=True)
            for key, result in zip(due, results, strict=True):
                if isinstance(result, BaseException):
                    fields = {"namespace": key[0], "model": key[1]}
                    logger.error("reconcile_crashed", extra=fields, exc_info=result)
