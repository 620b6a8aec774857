"""The queue before the engine: whose prompt is next, and how many the engine has at a time.

The engine takes prompts in order of arrival. A request with hundreds of windows that handed them over at once would
make every later request wait for all of them. So the engine gets only as much work as it does in half a second, and
requests share it equally by tokens: this is weighted fair queueing with equal weights.

Not thread-safe: use it on the event loop only.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LOOKAHEAD_SECONDS = 0.5
"""How much work the engine has at a time: enough to batch, little enough for a new request to be in soon."""

MIN_TOKENS = 1024
"""Tokens that the engine gets in any case, before its speed is known. One prompt may always enter an idle engine."""

MEASURED_SECONDS = 0.1
"""Time over which the engine's speed is measured, at least."""


@dataclass
class Flow:
    """The prompts of one request. `finish` is the virtual time at which the last one that was queued would be done."""

    finish: float = 0.0
    prompts: int = 0
    longest_wait: float = 0.0
    """The longest time that a prompt waited in the queue, in seconds."""


@dataclass(order=True)
class _Waiter:
    start: float
    number: int
    tokens: int = field(compare=False)
    flow: Flow = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)


class FairQueue:
    """Admits prompts to the engine, fair by tokens between the requests that have prompts."""

    def __init__(self, max_prompts: int, clock: Callable[[], float] = time.monotonic) -> None:
        """At most `max_prompts` are in the engine at a time."""
        self._max_prompts = max_prompts
        self._clock = clock
        self._waiting: list[_Waiter] = []
        self._numbers = itertools.count()
        self._virtual_time = 0.0
        self._flows = 0  # requests with prompts that wait or are in the engine
        self._prompts = self._tokens = 0  # in the engine
        self._speed = _Speed(clock)
        self._unanswered_since: float | None = None

    async def enter(self, flow: Flow, tokens: int) -> None:
        """Wait until a prompt of `tokens` may enter the engine. Call `leave` afterwards, unless this was cancelled."""
        self._flows += not flow.prompts
        flow.prompts += 1
        start = max(self._virtual_time, flow.finish)
        flow.finish = start + tokens
        if self._next_waiter() is None and self._fits(tokens):
            self._grant(start, tokens)
            return
        waiter = _Waiter(start, next(self._numbers), tokens, flow, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, waiter)
        began = self._clock()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                self._forget(flow)
            else:  # its turn came at the same moment
                self.leave(flow, tokens, answered=False)
            raise
        flow.longest_wait = max(flow.longest_wait, self._clock() - began)

    def leave(self, flow: Flow, tokens: int, *, answered: bool) -> None:
        """Take a prompt out of the engine. `answered` says whether the engine finished it."""
        self._prompts -= 1
        self._tokens -= tokens
        self._forget(flow)
        if answered:
            self._speed.add(tokens, idle=not self._prompts)
            self._unanswered_since = self._clock() if self._prompts else None
        while (waiter := self._next_waiter()) is not None and self._fits(waiter.tokens):
            heapq.heappop(self._waiting)
            self._grant(waiter.start, waiter.tokens)
            waiter.granted.set_result(None)

    @property
    def in_engine(self) -> int:
        """The number of prompts in the engine."""
        return self._prompts

    def unanswered_seconds(self) -> float:
        """Return for how long the engine has owed an answer: since the last one, or since it got the first prompt.

        A prompt that was cancelled does not count as answered, or impatient clients would hide an engine that hangs.
        """
        return 0.0 if self._unanswered_since is None else self._clock() - self._unanswered_since

    def _next_waiter(self) -> _Waiter | None:
        """Return the waiter whose turn is next. It stays in the queue."""
        while self._waiting and self._waiting[0].granted.cancelled():
            heapq.heappop(self._waiting)
        return self._waiting[0] if self._waiting else None

    def _fits(self, tokens: int) -> bool:
        most = max(MIN_TOKENS, self._speed.tokens_per_second * LOOKAHEAD_SECONDS)
        return not self._prompts or (self._prompts < self._max_prompts and self._tokens + tokens <= most)

    def _grant(self, start: float, tokens: int) -> None:
        # Virtual time runs at the speed at which each of the requests gets tokens. With the start alone, a stream of
        # new requests would hold it, and a request with many prompts would never get its next turn.
        self._virtual_time = max(self._virtual_time, start) + tokens / self._flows
        self._prompts += 1
        self._tokens += tokens
        if self._unanswered_since is None:
            self._unanswered_since = self._clock()
            self._speed.start()

    def _forget(self, flow: Flow) -> None:
        flow.prompts -= 1
        self._flows -= not flow.prompts


class _Speed:
    """The tokens that the engine finishes per second, while it has work."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = 0.0
        self._tokens = 0
        self.tokens_per_second = 0.0

    def start(self) -> None:
        """Begin to measure: the engine gets work."""
        self._began, self._tokens = self._clock(), 0

    def add(self, tokens: int, *, idle: bool) -> None:
        """Count the tokens of a finished prompt. `idle` means that the engine has no more work."""
        self._tokens += tokens
        seconds = self._clock() - self._began
        if seconds >= MEASURED_SECONDS or (idle and seconds > 0):
            measured = self._tokens / seconds
            # rises at once and falls slowly: a lone request does not show what the engine could do
            self.tokens_per_second = max(measured, 0.9 * self.tokens_per_second + 0.1 * measured)
            self.start()
