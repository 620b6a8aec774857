"""Which rate to try next when the highest one within the objective is looked for; pure.

From the start rate the rate is doubled while it holds (or halved while it does not), until one held and a higher one
did not. That bracket is then halved on a logarithmic scale (the next rate is the geometric mean) until its ends are
less than RESOLUTION apart, or MAX_TRIALS rates have been tried. The result is the highest rate that held below the
lowest that did not, so that luck with one trial does not count.
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
    """One rate that was tried, and whether it was carried within the objective."""

    rps: float
    passed: bool


def lowest_failed(trials: Sequence[Trial]) -> float | None:
    """The lowest rate that did not hold."""
    return min((trial.rps for trial in trials if not trial.passed), default=None)


def highest_passed(trials: Sequence[Trial]) -> float | None:
    """The result so far: the highest rate that held, below every one that did not."""
    failed = lowest_failed(trials)
    return max((p.rps for p in trials if p.passed and (failed is None or p.rps < failed)), default=None)


def next_rps(trials: Sequence[Trial], start: float, most: float) -> float | None:
    """The rate to try next, at most `most`; None when the search is over."""
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
    """Whether the highest rate that may be tried held."""
    best = highest_passed(trials)
    return best is not None and best >= _readable(most)


def _readable(rps: float) -> float:
    """Four significant digits."""
    return float(f"{rps:.4g}")
