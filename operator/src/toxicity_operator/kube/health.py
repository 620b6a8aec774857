"""How the watches are doing: since when each has failed, what was said of it, and which are no longer followed.

A watch has succeeded when the API server told something by it or ended it in time. A list or an answer alone does not
count: a watch whose place is forgotten again and again (410) is answered and listed every time, and follows nothing.
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
"""How long a watch fails before the log has it as an error."""

Watched = tuple[str, str | None]
"""A kind, and the namespace that it is watched in; None for all of them."""


@dataclass
class Record:
    """Of one watch, in seconds of the clock."""

    succeeded: float
    optional: bool
    failing_since: float | None = None
    is_said: bool = False


class WatchHealth:
    """What the watches report; safe to use from any thread.

    `count` is told of every failure by its kind.
    """

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
        """A watch is about to begin, with a list that was just taken."""
        with self._lock:
            self._records[watched] = Record(self._clock(), optional)

    def succeeded(self, watched: Watched) -> None:
        """It told something, or there is nothing to tell of."""
        with self._lock:
            record, now = self._records[watched], self._clock()
            since, record.succeeded = record.failing_since, now
            record.failing_since, record.is_said = None, False
        if since is not None:
            logger.info("watch_recovered", extra={**_fields(watched), "failed_seconds": round(now - since)})

    def failed(self, watched: Watched, error: ClusterError) -> None:
        """It failed. Logged when that begins, and once more, as an error, when it lasts."""
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
        """By kind, how long ago a watch of it last succeeded; of several namespaces the one that is worst off."""
        with self._lock:
            now, ages = self._clock(), dict[str, float]()
            for (kind, _), record in self._records.items():
                ages[kind] = max(ages.get(kind, 0.0), now - record.succeeded)
            return ages

    def unfollowed(self, seconds: float) -> list[str]:
        """The kinds that have not been followed for so long, without those that a cluster need not have."""
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
