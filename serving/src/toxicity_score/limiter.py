"""How many requests are open at a time: additive increase, multiplicative decrease.

The limit doubles per round trip until the service shows that it is busy, and rises by one per round trip after that.
A refusal halves it. If a request takes several times as long as the fastest one of its size, requests wait in the
service, where more of them would not help.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

LATENCY_RATIO = 4.0
"""A request that takes so many times the lowest latency for its work waited for others. The engine is always busy."""

DRIFT = 1.0001
"""By this factor the lowest latency rises with each request, so that it follows the service."""


class Limiter:
    """Not thread-safe: use it on the event loop only."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._limit = 1.0
        self._starting = True
        self._lowest = float("inf")
        self._last_cut = float("-inf")
        self._open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """The number of requests that may be open."""
        return int(self._limit)

    async def acquire(self) -> None:
        """Wait until one more request may be open. Call `release` afterwards."""
        if self._open < self.limit:
            self._open += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def release(self) -> None:
        """A request has ended."""
        self._open -= 1
        while self._waiting and self._open < self.limit:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._open += 1
                waiter.set_result(None)

    def answered(self, seconds: float, work: float) -> None:
        """Count a request that was answered after `seconds`. `work` is its size, such as its characters."""
        self._lowest = min(seconds / work, self._lowest * DRIFT)
        if seconds / work > LATENCY_RATIO * self._lowest:
            self._cut(0.9, seconds)
        else:
            self._limit = min(self._most, self._limit + (1.0 if self._starting else 1.0 / self._limit))

    def refused(self, retry_seconds: float) -> None:
        """Count a request that the service had no room for, or did not answer."""
        self._cut(0.5, retry_seconds)

    def _cut(self, factor: float, seconds: float) -> None:
        """Lower the limit, once for all requests that were open at the time."""
        self._starting = False
        if self._clock() - self._last_cut >= seconds:
            self._limit = max(1.0, self._limit * factor)
            self._last_cut = self._clock()
