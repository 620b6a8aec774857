"""Retries with exponential backoff: of failed passes, and of the first requests to an API server that is not ready."""

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
"""Shorter than the start time that the chart's liveness probe allows."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 5.0


class Retries:
    """At most one timer per resource in the running event loop. `on_expired` is called when it expires."""

    def __init__(self, on_expired: Callable[[Key], None], first_seconds: float = FIRST_SECONDS) -> None:
        self._on_expired = on_expired
        self._first = first_seconds
        self._pauses: dict[Key, float] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def note(self, key: Key, *, failed: bool) -> float | None:
        """Note the result of a pass. Return the delay before the retry, which doubles; None if the pass succeeded."""
        self._cancel(key)
        if not failed:
            self._pauses.pop(key, None)
            return None
        pause = self._pauses.get(key, self._first)
        self._pauses[key] = min(2 * pause, LONGEST_SECONDS)
        self._timers[key] = asyncio.get_running_loop().call_later(pause, self._run_out, key)
        return pause

    def stop(self) -> None:
        """Cancel all timers."""
        for key in list(self._timers):
            self._cancel(key)

    def _run_out(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._on_expired(key)

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
    """Call `ask` until it succeeds, with increasing pauses. Raises ClusterError after `seconds`."""
    began, wait = clock(), FIRST_PAUSE_SECONDS
    while True:
        try:
            return ask()
        except ClusterError as error:
            # 404: the kind is not served yet
            if not (is_transient(error) or error.status == NOT_FOUND) or clock() - began + wait > seconds:
                raise
            logger.warning("cluster_not_ready", extra={"problem": str(error), "next_try_seconds": wait})
        pause(wait)
        wait = min(2 * wait, LONGEST_PAUSE_SECONDS)
