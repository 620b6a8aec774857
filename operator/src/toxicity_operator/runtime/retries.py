"""When something that failed is tried again: a pass over a resource, and the start beside a server that is not ready.

A resource whose pass failed is reconciled again soon at first, then at growing intervals, until a pass succeeds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from toxicity_api.types import Key
from toxicity_operator.errors import NOT_FOUND, ClusterError, is_transient

logger = logging.getLogger(__name__)

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 30.0

START_SECONDS = 90.0
"""Less than the liveness probe of the chart grants a start."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 5.0


class Retries:
    """At most one timer per resource, in the running event loop; `look` is called when it has run out."""

    def __init__(self, look: Callable[[Key], None], first_seconds: float = FIRST_SECONDS) -> None:
        self._look = look
        self._first = first_seconds
        self._pauses: dict[Key, float] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def note(self, key: Key, *, failed: bool) -> float | None:
        """Takes how a pass ended. The pause before the next one: twice the last one; None when it did not fail."""
        self._cancel(key)
        if not failed:
            self._pauses.pop(key, None)
            return None
        pause = self._pauses.get(key, self._first)
        self._pauses[key] = min(2 * pause, LONGEST_SECONDS)
        self._timers[key] = asyncio.get_running_loop().call_later(pause, self._run_out, key)
        return pause

    def stop(self) -> None:
        """No timer runs any more."""
        for key in list(self._timers):
            self._cancel(key)

    def _run_out(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._look(key)

    def _cancel(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


def retry_until_ready(
    ask: Callable[[], None],
    *,
    seconds: float = START_SECONDS,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Asks again, ever less often, while the answer is that it is not ready. Raises ClusterError after `seconds`."""
    began, wait = clock(), FIRST_PAUSE_SECONDS
    while True:
        try:
            return ask()
        except ClusterError as error:
            # not found: the kind is not served yet
            if not (is_transient(error) or error.status == NOT_FOUND) or clock() - began + wait > seconds:
                raise
            logger.warning("cluster_not_ready", extra={"problem": str(error), "next_try_seconds": wait})
        pause(wait)
        wait = min(2 * wait, LONGEST_PAUSE_SECONDS)
