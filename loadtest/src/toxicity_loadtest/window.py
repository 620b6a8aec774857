"""An open window: distributes the slots of its schedule and collects the records. Independent of Locust."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from toxicity_loadtest.records import Outcome, Record, Window, WindowOrder

LEAD_SECONDS = 0.05
"""Time from opening a window to its first slot, so that all users are ready."""


class OpenWindow:
    """One window on the clock of this process. `texts` has a text per slot and is repeated if too short."""

    def __init__(
        self,
        order: WindowOrder,
        texts: Sequence[str],
        users: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.order = order
        self.records: list[Record] = []
        self._texts, self._clock = texts, clock
        self._next, self._taken, self._inside = order.part, 0, users
        self._closed = False
        self.pause = users * order.parts / order.rps
        """Seconds between two requests of one user if the service answers fast."""
        self.begin = clock() + LEAD_SECONDS
        self.began_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def elapsed(self) -> float:
        """Return the seconds since the window began, negative before its first slot."""
        return self._clock() - self.begin

    def take(self) -> tuple[int, str] | None:
        """Give a free user the next slot and its text; None if no slot is left or the window is over."""
        slot = self._next
        if self._closed or slot >= self.order.slots or self.elapsed() >= self.order.seconds:
            return None
        text = self._texts[self._taken % len(self._texts)]
        self._next += self.order.parts
        self._taken += 1
        return slot, text

    def add(self, slot: int, free: float, start: float, end: float, outcome: Outcome, status_code: int) -> Record:
        """Add the record of the slot's request. `free` is the time when its user became free."""
        scheduled = self.order.scheduled(slot)
        record = Record(slot, scheduled, max(scheduled, free), start, end, outcome, status_code)
        self.records.append(record)
        return record

    def leave(self) -> None:
        """Count a user that found no slot left."""
        self._inside -= 1

    def close(self) -> None:
        """Stop giving out slots."""
        self._closed = True

    @property
    def is_over(self) -> bool:
        """Whether every user has left and the time is over. A closed window does not wait for its time."""
        return self._inside <= 0 and (self._closed or self.elapsed() >= self.order.seconds)

    @property
    def missing(self) -> int:
        """Number of requests that were started and have no record."""
        return self._taken - len(self.records)

    def result(self, cpu_share: float) -> Window:
        """Return the finished window."""
        left = range(self._next, self.order.slots, self.order.parts)
        omitted = [] if self._closed else [self.order.scheduled(slot) for slot in left]
        return Window(self.order, self.records, omitted, cpu_share, self.began_at)
