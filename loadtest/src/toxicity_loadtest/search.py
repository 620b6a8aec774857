"""Search for the highest rate within the SLO, without I/O: choose the rate of the next trial.

From the first rate on, the rate is doubled while trials pass, or halved while they fail, until one rate has passed and
a higher one has failed. The interval is then bisected on a logarithmic scale: the next rate is the geometric mean. The
search ends when the ends differ by less than RESOLUTION, or after MAX_TRIALS trials.

The result is the highest passed rate below the lowest failed one, so that a single lucky trial does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

RESOLUTION = 0.1
MAX_TRIALS = 8
MIN_RPS = 0.1


@dataclass(frozen=True)
class Trial:
    """A tested rate, and whether the service carried it within the SLO."""

    rps: float
    passed: bool


def lowest_failed(trials: Sequence[Trial]) -> float | None:
    """Return the lowest failed rate."""
    return min((trial.rps for trial in trials if not trial.passed), default=None)


def highest_passed(trials: Sequence[Trial]) -> float | None:
    """Return the result so far: the highest passed rate below all failed ones."""
    failed = lowest_failed(trials)
    return max((p.rps for p in trials if p.passed and (failed is None or p.rps < failed)), default=None)


def next_rps(trials: Sequence[Trial], start: float, most: float) -> float | None:
    """Return the rate of the next trial, at most `most`; None at the end of the search."""
    if len(trials) >= MAX_TRIALS:
        return None
    best, worst = highest_passed(trials), lowest_failed(trials)
    if best is None and worst is None:
        return _readable(min(start, most))
    if worst is None:
        assert best is not None
        return None if has_reached(trials, most) else _readable(min(2 * best, most))
    if best is None:
        return None if worst <= MIN_RPS else _readable(max(worst / 2, MIN_RPS))
    return None if worst / best <= 1 + RESOLUTION else _readable(math.sqrt(best * worst))


def has_reached(trials: Sequence[Trial], most: float) -> bool:
    """Whether the highest allowed rate has passed."""
    best = highest_passed(trials)
    return best is not None and best >= _readable(most)


def _readable(rps: float) -> float:
    """Round to four significant digits."""
    return float(f"{rps:.4g}")
