"""Whose turn it is to move to what the present operator makes: a few resources at a time."""

from __future__ import annotations

import threading

from toxicity_api.types import Key


class Turns:
    """At most `limit` resources have a turn; each keeps it until it has moved, or has failed to. Thread-safe.

    A new process begins with none taken: what is under way then goes on without one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._taken: set[Key] = set()

    def take(self, key: Key) -> bool:
        """Whether the resource has a turn now."""
        with self._lock:
            if key not in self._taken and len(self._taken) < self._limit:
                self._taken.add(key)
            return key in self._taken

    def has(self, key: Key) -> bool:
        """Whether the resource has a turn."""
        with self._lock:
            return key in self._taken

    def give(self, key: Key) -> None:
        """The resource needs its turn no more."""
        with self._lock:
            self._taken.discard(key)
