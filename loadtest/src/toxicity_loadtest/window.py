"""A window while it is open: hands out the slots of its schedule, collects the records. Knows no Locust."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from toxicity_loadtest.records import Outcome, Record, Window, WindowOrder

LEAD_SECONDS = 0.05
"""Between opening a window and its first slot, so that every user is there to take one."""


class OpenWindow:
    """One window on the clock of this process. `texts` holds a text per slot of this part, and is used in a circle."""

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
        """Seconds between two requests of one user while the service is quick."""
        self.begin = clock() + LEAD_SECONDS
        self.began_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def elapsed(self) -> float:
        """Seconds since the window began; negative during the lead."""
        return self._clock() - self.begin

    def take(self) -> tuple[int, str] | None:
        """The next slot and its text, for a user who is free; None when the window has none left or is over."""
        slot = self._next
        if self._closed or slot >= self.order.slots or self.elapsed() >= self.order.seconds:
            return None
        text = self._texts[self._taken % len(self._texts)]
        self._next += self.order.parts
        self._taken += 1
        return slot, text

    def add(self, slot: int, free: float, start: float, end: float, outcome: Outcome, status_code: int) -> Record:
        """Keeps the record of the slot's request; `free` is when its user became free."""
        scheduled = self.order.scheduled(slot)
        record = Record(slot, scheduled, max(scheduled, free), start, end, outcome, status_code)
        self.records.append(record)
        return record

    def leave(self) -> None:
        """A user has found no slot left."""
        self._inside -= 1

    def close(self) -> None:
        """No slot is handed out any more."""
        self._closed = True

    @property
    def is_over(self) -> bool:
        """Whether every user has left and the time is up; a closed window does not wait for its time."""
        return self._inside <= 0 and (self._closed or self.elapsed() >= self.order.seconds)

    @property
    def missing(self) -> int:
        """Requests that were begun and have not ended."""
        return self._taken - len(self.records)

    def result(self, cpu_share: float) -> Window:
        """The closed window."""
        left = range(self._next, self.order.slots, self.order.parts)
        omitted = [] if self._closed else [self.order.scheduled(slot) for slot in left]
        return Window(self.order, self.records, omitted, cpu_share, self.began_at)
