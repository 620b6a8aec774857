"""The records of the generator, one per request, from which all figures are computed.

Times are seconds since the window began, on the clock of the process that sent the request. Clocks of two workers are
never compared. A window has a schedule of evenly spaced slots, and slot n is due at n / rps. The first free user takes
a slot, so a request waits for a user only while all users wait for the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from toxicity_api.base import Document

WARMUP, MIXED, CALIBRATION = "warm-up", "mixed", "calibration"
"""Names of windows that belong to no length bucket."""


class Outcome(StrEnum):
    OK = "ok"
    HTTP_ERROR = "http error"
    INVALID_ANSWER = "invalid answer"
    TIMEOUT = "timeout"
    CONNECTION = "connection error"


class Record(NamedTuple):
    """One request. `status_code` is 0 without an answer.

    `scheduled_start` is the time of the slot. `intended_start` is the later of that and of the time when the user
    became free. The difference to `start` is the delay of the generator itself.
    """

    slot: int
    scheduled_start: float
    intended_start: float
    start: float
    end: float
    outcome: Outcome
    status_code: int


class WindowOrder(Document):
    """Load to offer in one window. The slots part, part + parts, ... belong to this process."""

    number: int
    name: str
    rps: float
    seconds: float
    part: int = 0
    parts: int = 1

    @property
    def slots(self) -> int:
        """Number of requests in the window over all parts. The first is due at its start."""
        whole = int(self.rps * self.seconds)
        return max(1, whole + (whole < self.rps * self.seconds - 1e-6))

    def scheduled(self, slot: int) -> float:
        """Return the time of a slot, in seconds since the window began."""
        return slot / self.rps


@dataclass(frozen=True)
class Window:
    """A finished window, in which every sent request has ended."""

    order: WindowOrder
    records: Sequence[Record] = field(default_factory=tuple)
    omitted: Sequence[float] = field(default_factory=tuple)
    """Scheduled starts of the slots that found no free user before the end of the window."""
    cpu_share: float = 0.0
    """CPU use of the busiest generator process, as a share of one core or of its limit."""
    began_at: str = ""
    """Wall clock time, RFC 3339."""


def join(order: WindowOrder, parts: Sequence[Window]) -> Window:
    """Join the parts of several workers into one window, in the order of the schedule."""
    return Window(
        order=order,
        records=sorted((record for part in parts for record in part.records), key=lambda record: record.slot),
        omitted=sorted(start for part in parts for start in part.omitted),
        cpu_share=max((part.cpu_share for part in parts), default=0.0),
        began_at=min((part.began_at for part in parts), default=""),
    )
