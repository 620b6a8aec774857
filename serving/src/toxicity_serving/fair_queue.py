"""The queue before the engine: whose prompt is next, and how many the engine has at a time.

The engine takes prompts in order of arrival. A request with hundreds of windows that handed them over at once would
make every later request wait for all of them. So requests are either small or large. Small ones share as much work as
the engine does in half a second. While small ones come, large ones have only as much of a step as their number is
worth, and the engine computes a long prompt in pieces, so that a step is not much longer for them. Within each kind,
requests share equally by tokens: this is weighted fair queueing with equal weights.

Not thread-safe: use it on the event loop only.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LOOKAHEAD_SECONDS = 0.5
"""How much work the engine has at a time: enough to batch, little enough for a new request to be in soon."""

MIN_TOKENS = 1024
"""Tokens that the engine gets in any case, before its speed is known."""

SMALL_SHARE = 1 / 4
"""The tokens of a small request at most, relative to those that the engine gets at a time."""

LARGE_STEP_SHARE = 1 / 16
"""The tokens of large requests in a step beside small ones, relative to those that the engine gets at a time.

They get more if there are so many of them that each has less than a small one.
"""

MEASURED_SECONDS = 2 * LOOKAHEAD_SECONDS
"""Time over which the engine's speed is measured, at least, unless it becomes idle before."""


@dataclass
class Flow:
    """The prompts of one request. `finish` is the virtual time at which the last one that was queued would be done."""

    lane: _Lane
    finish: float = 0.0
    prompts: int = 0
    longest_wait: float = 0.0
    """The longest time that a prompt waited in the queue, in seconds."""

    @property
    def large(self) -> bool:
        """Whether the request is a large one."""
        return self.lane.large


@dataclass(frozen=True)
class Turn:
    """A prompt in the engine, and the time at which it entered."""

    flow: Flow
    tokens: int
    entered: float


@dataclass(order=True)
class _Waiter:
    start: float
    number: int
    flow: Flow = field(compare=False)
    tokens: int = field(compare=False)
    granted: asyncio.Future[Turn] = field(compare=False)


class FairQueue:
    """Admits prompts to the engine, fair by tokens between the requests that have prompts."""

    def __init__(
        self, max_prompts: int, prefill_chunk: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """At most `max_prompts` prompts of small requests are in the engine at a time, and as many of large ones.

        While large and small ones meet, the engine computes at most `prefill_chunk` tokens of a prompt in one step;
        None means all.
        """
        self._max_prompts = max_prompts
        self._prefill_chunk = prefill_chunk
        self._clock = clock
        self._small, self._large = _Lane(large=False), _Lane(large=True)
        self._small_left = -math.inf  # when the last prompt of a small request left the engine
        self._speed = _Speed(clock)
        self._unanswered_since: float | None = None

    def flow(self, tokens: int) -> Flow:
        """Return the flow of a request whose prompts have `tokens` together."""
        return Flow(self._large if tokens > SMALL_SHARE * self._most_tokens() else self._small)

    async def enter(self, flow: Flow, tokens: int) -> Turn:
        """Wait until a prompt of `tokens` may enter the engine. Call `leave` afterwards, unless this was cancelled."""
        lane = flow.lane
        start = lane.add(flow, tokens)
        if lane.next_waiter() is None and self._fits(lane, tokens):
            return self._grant(flow, start, tokens)
        granted: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        lane.push(start, flow, tokens, granted)
        began = self._clock()
        try:
            turn = await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                lane.forget(flow)
            else:  # its turn came at the same moment
                self.leave(granted.result(), answered=False)
            raise
        flow.longest_wait = max(flow.longest_wait, turn.entered - began)
        return turn

    def leave(self, turn: Turn, *, answered: bool) -> None:
        """Take a prompt out of the engine. `answered` says whether the engine finished it."""
        turn.flow.lane.take_out(turn.tokens, self._step_tokens(turn.tokens))
        turn.flow.lane.forget(turn.flow)
        if not turn.flow.large:
            self._small_left = self._clock()
        if answered:
            self._speed.add(turn, idle=not self.in_engine)
            self._unanswered_since = self._clock() if self.in_engine else None
        for lane in (self._small, self._large):
            while (waiter := lane.next_waiter()) is not None and self._fits(lane, waiter.tokens):
                lane.pop()
                waiter.granted.set_result(self._grant(waiter.flow, waiter.start, waiter.tokens))

    @property
    def in_engine(self) -> int:
        """The number of prompts in the engine."""
        return self._small.prompts + self._large.prompts

    def unanswered_seconds(self) -> float:
        """Return for how long the engine has owed an answer: since the last one, or since it got the first prompt.

        A prompt that was cancelled does not count as answered, or impatient clients would hide an engine that hangs.
        """
        return 0.0 if self._unanswered_since is None else self._clock() - self._unanswered_since

    def _fits(self, lane: _Lane, tokens: int) -> bool:
        if not lane.prompts:  # one prompt may always enter, whatever its length
            return True
        if lane.large and self._small_ones_come():
            fair = self._small.step_tokens / max(1, self._small.flows) * lane.flows
            most = min(max(LARGE_STEP_SHARE * self._most_tokens(), fair), self._most_tokens())
            return lane.step_tokens + self._step_tokens(tokens) <= most
        return lane.prompts < self._max_prompts and lane.tokens + tokens <= self._most_tokens()

    def _small_ones_come(self) -> bool:
        # a client needs a moment between an answer and its next request
        return bool(self._small.flows) or self._clock() - self._small_left < LOOKAHEAD_SECONDS

    def _grant(self, flow: Flow, start: float, tokens: int) -> Turn:
        flow.lane.put_in(start, tokens, self._step_tokens(tokens))
        if self._unanswered_since is None:
            self._unanswered_since = self._clock()
            self._speed.start()
        return Turn(flow, tokens, self._clock())

    def _most_tokens(self) -> float:
        return max(MIN_TOKENS, self._speed.tokens_per_second * LOOKAHEAD_SECONDS)

    def _step_tokens(self, tokens: int) -> int:
        return tokens if self._prefill_chunk is None else min(tokens, self._prefill_chunk)


class _Lane:
    """The small or the large requests: their prompts that wait, and what they have in the engine."""

    def __init__(self, *, large: bool) -> None:
        self.large = large
        self.flows = 0  # requests with prompts that wait or are in the engine
        self.prompts = self.tokens = self.step_tokens = 0  # in the engine
        self._waiting: list[_Waiter] = []
        self._numbers = itertools.count()
        self._virtual_time = 0.0

    def add(self, flow: Flow, tokens: int) -> float:
        """Count a prompt of a flow. Returns the virtual time at which its turn is."""
        self.flows += not flow.prompts
        flow.prompts += 1
        start = max(self._virtual_time, flow.finish)
        flow.finish = start + tokens
        return start

    def forget(self, flow: Flow) -> None:
        """Count a prompt of a flow no longer."""
        flow.prompts -= 1
        self.flows -= not flow.prompts

    def push(self, start: float, flow: Flow, tokens: int, granted: asyncio.Future[Turn]) -> None:
        heapq.heappush(self._waiting, _Waiter(start, next(self._numbers), flow, tokens, granted))

    def next_waiter(self) -> _Waiter | None:
        """Return the waiter whose turn is next. It stays in the queue."""
        while self._waiting and self._waiting[0].granted.cancelled():
            heapq.heappop(self._waiting)
        return self._waiting[0] if self._waiting else None

    def pop(self) -> None:
        heapq.heappop(self._waiting)

    def put_in(self, start: float, tokens: int, step_tokens: int) -> None:
        """Count a prompt in the engine, whose turn was at `start`."""
        # Virtual time runs at the speed at which each of the requests gets tokens. With the start alone, a stream of
        # new requests would hold it, and a request with many prompts would never get its next turn.
        self._virtual_time = max(self._virtual_time, start) + tokens / self.flows
        self.prompts += 1
        self.tokens += tokens
        self.step_tokens += step_tokens

    def take_out(self, tokens: int, step_tokens: int) -> None:
        """Count a prompt in the engine no longer."""
        self.prompts -= 1
        self.tokens -= tokens
        self.step_tokens -= step_tokens


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

    def add(self, finished: Turn, *, idle: bool) -> None:
        """Count a finished prompt. `idle` means that the engine has no more work."""
        # of a prompt that entered before, nobody knows how much was computed before
        self._tokens += finished.tokens * (finished.entered >= self._began)
        seconds = self._clock() - self._began
        if seconds >= MEASURED_SECONDS or (idle and seconds > 0):
            measured = self._tokens / seconds
            # rises at once and falls slowly: a lone request does not show what the engine could do
            self.tokens_per_second = max(measured, 0.9 * self.tokens_per_second + 0.1 * measured)
            self.start()
