"""What the generator writes down, one record per request; every figure is made of these alone.

Times are seconds since the window began, on the clock of the process that sent the request: clocks of two workers are
never compared. A window is a stretch of load with a schedule of evenly spaced slots; the slot of number n is due at
n / rps. A slot is taken by the first user who is free, so a request is late for want of a user only when all users
wait for the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from toxicity_api.base import Document

WARMUP, MIXED, CALIBRATION = "warm-up", "mixed", "calibration"
"""Names of windows that are of no length bucket."""


class Outcome(StrEnum):
    OK = "ok"
    HTTP_ERROR = "http error"
    INVALID_ANSWER = "invalid answer"
    TIMEOUT = "timeout"
    CONNECTION = "connection error"


class Record(NamedTuple):
    """One request. `status_code` is 0 where no answer came.

    `scheduled_start` is the slot of the fixed grid. `intended_start` is that, or when the user who took the slot
    became free, whichever is later: what lies between it and `start` is the generator's own lateness.
    """

    slot: int
    scheduled_start: float
    intended_start: float
    start: float
    end: float
    outcome: Outcome
    status_code: int


class WindowOrder(Document):
    """What is to be offered. `part` of `parts`: the slots part, part + parts, … belong to this process."""

    number: int
    name: str
    rps: float
    seconds: float
    part: int = 0
    parts: int = 1

    @property
    def slots(self) -> int:
        """How many requests are due in the window, those of all parts; the first one is due at its begin."""
        whole = int(self.rps * self.seconds)
        return max(1, whole + (whole < self.rps * self.seconds - 1e-6))

    def scheduled(self, slot: int) -> float:
        """When a slot is due, in seconds since the window began."""
        return slot / self.rps


@dataclass(frozen=True)
class Window:
    """One closed stretch of load: every request begun in it, ended."""

    order: WindowOrder
    records: Sequence[Record] = field(default_factory=tuple)
    omitted: Sequence[float] = field(default_factory=tuple)
    """Scheduled starts of the slots that no user was free for before the window was over."""
    cpu_share: float = 0.0
    """CPU that the busiest generator process used, as a share of what it may use (one core, or its limit)."""
    began_at: str = ""
    """Wall clock, RFC 3339."""


def join(order: WindowOrder, parts: Sequence[Window]) -> Window:
    """One window of what several workers report of their parts, in the order of the schedule."""
    return Window(
        order=order,
        records=sorted((record for part in parts for record in part.records), key=lambda record: record.slot),
        omitted=sorted(start for part in parts for start in part.omitted),
        cpu_share=max((part.cpu_share for part in parts), default=0.0),
        began_at=min((part.began_at for part in parts), default=""),
    )
