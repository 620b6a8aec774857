"""Health of the watches: when each one last succeeded, since when it fails, and what was logged about it.

A watch succeeds if it receives an event, or if the API server ends it on time. A successful list or an opened watch
does not count: a watch whose resourceVersion expires each time (410) can be listed and opened, but receives nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from toxicity_operator.errors import ClusterError

logger = logging.getLogger(__name__)

ERROR_AFTER_SECONDS = 60.0
"""Time after which a failing watch is logged as an error."""

Watched = tuple[str, str | None]
"""A watched kind and its namespace; None for all namespaces."""


@dataclass
class Record:
    """State of one watch. Times are in seconds of the clock."""

    succeeded: float
    optional: bool
    failing_since: float | None = None
    is_said: bool = False


class WatchHealth:
    """Records successes and failures of the watches. Thread-safe. `count` is called with every failure."""

    def __init__(
        self,
        count: Callable[[str, ClusterError], object] = lambda kind, error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[Watched, Record] = {}

    def begin(self, watched: Watched, *, optional: bool) -> None:
        """Note that a watch starts."""
        with self._lock:
            self._records[watched] = Record(self._clock(), optional)

    def succeeded(self, watched: Watched) -> None:
        """Note that the watch received an event or ended on time, or that the kind does not exist."""
        with self._lock:
            record, now = self._records[watched], self._clock()
            since, record.succeeded = record.failing_since, now
            record.failing_since, record.is_said = None, False
        if since is not None:
            logger.info("watch_recovered", extra={**_fields(watched), "failed_seconds": round(now - since)})

    def failed(self, watched: Watched, error: ClusterError) -> None:
        """Note a failure. It is logged at the first one, and as an error after ERROR_AFTER_SECONDS."""
        self._count(watched[0], error)
        with self._lock:
            record, now = self._records[watched], self._clock()
            is_first, since = record.failing_since is None, record.failing_since or now
            record.failing_since = since
            is_late = not record.is_said and now - since >= ERROR_AFTER_SECONDS
            record.is_said |= is_late
        if is_first:
            logger.warning("watch_failed", extra={**_fields(watched), "problem": str(error)})
        if is_late:
            fields = {"failed_seconds": round(now - since), "problem": str(error)}
            logger.error("watch_keeps_failing", extra={**_fields(watched), **fields})

    def ages(self) -> dict[str, float]:
        """Seconds since the last success by kind: the longest of all namespaces."""
        with self._lock:
            now, ages = self._clock(), dict[str, float]()
            for (kind, _), record in self._records.items():
                ages[kind] = max(ages.get(kind, 0.0), now - record.succeeded)
            return ages

    def unfollowed(self, seconds: float) -> list[str]:
        """The kinds, except optional ones, whose watch has not succeeded for at least `seconds`."""
        with self._lock:
            now = self._clock()
            late = [
                kind
                for (kind, _), record in self._records.items()
                if not record.optional and now - record.succeeded >= seconds
            ]
        return sorted(set(late))


def _fields(watched: Watched) -> dict[str, str]:
    return {"kind": watched[0], "scope": watched[1] or "all"}
