"""Recorded arrivals: one time per line, in seconds. Empty lines and lines that begin with # are ignored."""

from __future__ import annotations

import math
from pathlib import Path

from toxicity_loadtest.arrivals import normalise
from toxicity_loadtest.errors import TraceError

FIELD = "loadTest.trace"


def read_trace(path: Path) -> tuple[float, ...]:
    """Return the times of the file, shifted to begin at 0 and scaled to a mean gap of 1.

    Raises TraceError, which names the field, the line and what is wrong with it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"cannot read the file of {FIELD} from {path}: {error}") from error
    times = [_time(line.strip(), number) for number, line in enumerate(lines, 1) if _has_time(line)]
    try:
        return normalise(times)
    except ValueError as error:
        raise TraceError(f"the file of {FIELD} is no series of arrival times: {error}") from error


def _has_time(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _time(word: str, line: int) -> float:
    try:
        time = float(word)
    except ValueError:
        time = math.nan
    if not math.isfinite(time):
        raise TraceError(f"line {line} of the file of {FIELD} is {word!r}: write one time in seconds per line")
    return time
