"""Search for the highest rate within the SLO, without I/O: choose the rate of the next trial.

From the first rate on, the rate is raised by a factor while trials pass, or lowered by it while they fail, until one
rate has passed and a higher one has failed. The interval is then bisected on a logarithmic scale: the next rate is the
geometric mean. When the ends differ by less than the resolution, or after MAX_RATES rates, the lowest failed rate is
tried once more. If it passes, the failure was chance, and the search continues above it with as many rates again.

The result is the highest passed rate below the lowest failed one, so that a single lucky trial does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_RATES = 9
MAX_DISPROVED = 2
"""Largest number of failures by chance after which a search continues for as long again."""

MIN_RPS = 0.1


@dataclass(frozen=True)
class Steps:
    """`resolution`: largest relative difference of the ends of the result. `factor`: step to the first failure."""

    resolution: float
    factor: float


COARSE = Steps(resolution=0.1, factor=2.0)
FINE = Steps(resolution=0.05, factor=1.25)
"""For the mixed lengths, from which the replicas are planned, and whose rate is expected from the buckets."""


@dataclass(frozen=True)
class Trial:
    """A tested rate, and whether the service carried it within the SLO."""

    rps: float
    passed: bool


def lowest_failed(trials: Sequence[Trial]) -> float | None:
    """Return the lowest rate that failed and did not pass when it was repeated."""
    passed = {trial.rps for trial in trials if trial.passed}
    return min((trial.rps for trial in trials if trial.rps not in passed), default=None)


def highest_passed(trials: Sequence[Trial]) -> float | None:
    """Return the result so far: the highest passed rate below all failed ones."""
    failed = lowest_failed(trials)
    return max((p.rps for p in trials if p.passed and (failed is None or p.rps < failed)), default=None)


def next_rps(trials: Sequence[Trial], start: float, most: float, steps: Steps = COARSE) -> float | None:
    """Return the rate of the next trial, at most `most`; None at the end of the search."""
    new, failed = _new_rate(trials, start, most, steps), lowest_failed(trials)
    if new is not None or failed is None:
        return new
    return failed if sum(trial.rps == failed for trial in trials) == 1 else None


def _new_rate(trials: Sequence[Trial], start: float, most: float, steps: Steps) -> float | None:
    """Return a rate that was not tried yet; None if the search has found its result or has tried enough rates."""
    passed = {trial.rps for trial in trials if trial.passed}
    disproved = {trial.rps for trial in trials if not trial.passed} & passed
    if len({trial.rps for trial in trials}) >= MAX_RATES * (1 + min(len(disproved), MAX_DISPROVED)):
        return None
    best, worst = highest_passed(trials), lowest_failed(trials)
    if best is None and worst is None:
        return _readable(min(start, most))
    if worst is None:
        assert best is not None
        return None if has_reached(trials, most) else _readable(min(steps.factor * best, most))
    if best is None:
        return None if worst <= MIN_RPS else _readable(max(worst / steps.factor, MIN_RPS))
    return None if worst / best <= 1 + steps.resolution else _readable(math.sqrt(best * worst))


def has_reached(trials: Sequence[Trial], most: float) -> bool:
    """Whether the highest allowed rate has passed."""
    best = highest_passed(trials)
    return best is not None and best >= _readable(most)


def _readable(rps: float) -> float:
    """Round to four significant digits."""
    return float(f"{rps:.4g}")
