"""What the generator writes down, one record per request; the report is made of these alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    OK = "ok"
    HTTP_ERROR = "http error"
    INVALID_ANSWER = "invalid answer"
    TIMEOUT = "timeout"
    CONNECTION = "connection error"


@dataclass(frozen=True)
class Record:
    """One request. Times in seconds of one monotonic clock; `status_code` is 0 where no answer came.

    `intended_start` is when the user's pace had it start: never before the user's previous request ended, so the
    difference to `start` is the generator's own lateness.
    """

    bucket: str
    intended_start: float
    start: float
    end: float
    outcome: Outcome
    status_code: int


@dataclass(frozen=True)
class Window:
    """One closed stretch of load: every request begun in it, ended."""

    bucket: str
    seconds: float
    begin: float
    cpu_cores: float
    """CPU the generator's process used, in cores, over the window."""
    records: list[Record] = field(default_factory=list)
