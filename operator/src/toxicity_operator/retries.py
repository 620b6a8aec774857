"""When a resource whose pass failed is looked at again: soon at first, then ever later, until a pass succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Key = tuple[str, str]

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 30.0


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
