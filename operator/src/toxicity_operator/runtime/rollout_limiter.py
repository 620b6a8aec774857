"""Whose turn it is to move to what the present operator makes: a few resources at a time."""

from __future__ import annotations

import threading

from toxicity_api.types import Key


class RolloutLimiter:
    """At most `limit` resources have a turn; each keeps it until it has moved, or has failed to. Thread-safe.

    A new process begins with none taken: what is under way then goes on without one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._holders: set[Key] = set()

    def acquire(self, key: Key) -> bool:
        """Whether the resource has a turn now."""
        with self._lock:
            if key not in self._holders and len(self._holders) < self._limit:
                self._holders.add(key)
            return key in self._holders

    def holds(self, key: Key) -> bool:
        """Whether the resource has a turn."""
        with self._lock:
            return key in self._holders

    def release(self, key: Key) -> None:
        """The resource needs its turn no more."""
        with self._lock:
            self._holders.discard(key)
