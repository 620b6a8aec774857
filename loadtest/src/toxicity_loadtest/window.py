"""An open window: its schedule, the requests that are open, and the records. Independent of Locust."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from toxicity_loadtest.records import Outcome, Record, Window, WindowOrder
from toxicity_loadtest.spill import Records

LEAD_SECONDS = 0.05
"""Time from opening a window to the begin of its schedule, so that the dispatcher is ready."""


class OpenWindow:
    """One window on the clock of this process. `texts` has the texts of each slot and is repeated if too short."""

    def __init__(
        self,
        order: WindowOrder,
        texts: Sequence[Sequence[str]],
        records: Records,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`records` is empty and gets the record of every request."""
        self.order, self.records = order, records
        self.open_peak = 0
        self._texts, self._clock = texts, clock
        self._next, self._taken = order.part, 0
        self.late = 0
        """Number of slots that are due and wait for a user."""
        self._open = 0
        self._omitted: list[float] = []
        self._cpu: list[tuple[float, float]] = []
        self._closed = False
        self.begin = clock() + LEAD_SECONDS
        self.began_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def elapsed(self) -> float:
        """Return the seconds since the window began, negative before its schedule begins."""
        return self._clock() - self.begin

    def next_slot(self) -> tuple[int, Sequence[str]] | None:
        """Return the next slot of the schedule and its texts; None after the last one or if the window is closed."""
        slot = self._next
        if self._closed or slot >= self.order.slots:
            return None
        texts = self._texts[self._taken % len(self._texts)]
        self._next += self.order.parts
        self._taken += 1
        return slot, texts

    def admit(self, slot: int, *, waited: bool) -> bool:
        """Count a slot as sent, unless the window has ended while it waited for a user.

        A slot for which a user was free is sent even if the generator is late. Its lag then shows that.
        """
        if self._closed:
            return False
        if waited and self.elapsed() >= self.order.seconds:
            self._omitted.append(self.order.scheduled(slot))
            return False
        self._open += 1
        self.open_peak = max(self.open_peak, self._open)
        return True

    def add(
        self, slot: int, intended: float, start: float, end: float, outcome: Outcome, status_code: int
    ) -> Record:
        """Add the record of the slot's request. `intended` is its time, or when a user became free for it."""
        scheduled = self.order.scheduled(slot)
        record = Record(slot, scheduled, max(scheduled, intended), start, end, outcome, status_code)
        self.records.append(record)
        self._open -= 1
        return record

    def add_cpu(self, share: float) -> None:
        """Keep the CPU use of this process since the last call, as a share of what it may use."""
        self._cpu.append((round(self.elapsed(), 3), round(share, 4)))

    def close(self) -> None:
        """Stop giving out slots."""
        self._closed = True

    @property
    def is_over(self) -> bool:
        """Whether the time is over and all requests have ended. A closed window does not wait for its time."""
        return not self._open and not self.late and (self._closed or self.elapsed() >= self.order.seconds)

    @property
    def missing(self) -> int:
        """Number of requests that were started and have no record."""
        return self._open

    def result(self, cpu_share: float) -> Window:
        """Return the finished window. Its slots that were never sent are omitted, unless it was closed."""
        self.records.spill()
        left = range(self._next, self.order.slots, self.order.parts)
        omitted = [] if self._closed else [*self._omitted, *(self.order.scheduled(slot) for slot in left)]
        return Window(
            self.order, self.records, omitted, cpu_share, self.began_at, self.open_peak, tuple(self._cpu)
        )
