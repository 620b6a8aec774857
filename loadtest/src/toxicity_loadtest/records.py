"""The records of the generator, one per request, from which all figures are computed.

Times are seconds since the window began, on the clock of the process that sent the request. Clocks of two workers are
never compared. A window has a schedule of slots, one per request. A slot is sent when it is due if a user is free. It
waits for a user only while all users wait for the service, that is, at the limit of open requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from toxicity_api.base import Document
from toxicity_api.spec.loadtest import Arrivals, Bursts
from toxicity_loadtest.arrivals import replay, spread

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

    `scheduled_start` is the time of the slot. `intended_start` is the same, or the time when a user became free if none
    was. The difference to `start` is the delay of the generator itself.
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
    arrivals: Arrivals = "uniform"
    bursts: Bursts | None = None
    trace: tuple[float, ...] = ()
    """Arrival times to replay, with a mean gap of 1; empty without a trace."""
    seed: int = 0

    @cached_property
    def times(self) -> Sequence[float]:
        """Arrival time of each slot over all parts, in seconds since the window began."""
        if self.trace:
            return replay(self.trace, self.rps, self.seconds)
        return spread(self.rps, self.seconds, self.arrivals, self.bursts, f"{self.seed}:arrivals:{self.number}")

    @property
    def slots(self) -> int:
        """Number of requests in the window over all parts."""
        return len(self.times)

    def scheduled(self, slot: int) -> float:
        """Return the time of a slot, in seconds since the window began."""
        return self.times[slot]


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
    open_peak: int = 0
    """Largest number of requests that waited for an answer at the same time; of several workers, the sum."""
    cpu: Sequence[tuple[float, float]] = field(default_factory=tuple)
    """CPU use over time: seconds since the window began, and the share as in `cpu_share`."""


def join(order: WindowOrder, parts: Sequence[Window], records: Sequence[Record]) -> Window:
    """Join the parts of several workers into one window. `records` are those of all parts, by slot."""
    return Window(
        order=order,
        records=records,
        omitted=sorted(start for part in parts for start in part.omitted),
        open_peak=sum(part.open_peak for part in parts),
        cpu=sorted(point for part in parts for point in part.cpu),
        cpu_share=max((part.cpu_share for part in parts), default=0.0),
        began_at=min((part.began_at for part in parts), default=""),
    )
