"""Limits how many resources are upgraded to the current operator's images at once."""

from __future__ import annotations

import threading

from toxicity_api.types import Key


class RolloutLimiter:
    """Grants permits to at most `limit` resources. A resource keeps its permit until its rollout ends. Thread-safe.

    The permits are not stored. After a restart, rollouts in progress continue without one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._holders: set[Key] = set()

    def acquire(self, key: Key) -> bool:
        """Grant a permit if one is free. Return whether the resource has one."""
        with self._lock:
            if key not in self._holders and len(self._holders) < self._limit:
                self._holders.add(key)
            return key in self._holders

    def holds(self, key: Key) -> bool:
        """Whether the resource has a permit."""
        with self._lock:
            return key in self._holders

    def release(self, key: Key) -> None:
        """Return the permit of the resource, if it has one."""
        with self._lock:
            self._holders.discard(key)
