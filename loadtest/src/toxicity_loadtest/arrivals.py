"""Arrival times of a window, without I/O: even, Poisson, in bursts, or replayed from a trace.

A Poisson process with a given number of arrivals in a window has them at independent uniform times, in ascending order.
The number of requests is fixed, so that every window offers exactly the rate it is named after.

Bursts change the rate over time. An arrival with the share x of the window's requests before it is due when the
integral of the rate has reached that share.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from itertools import count, pairwise

from toxicity_api.spec.loadtest import Arrivals, Bursts

TINY = 1e-6


def requests_in(rps: float, seconds: float) -> int:
    """Return the number of requests in a window without a trace, at least 1."""
    whole = int(rps * seconds)
    return max(1, whole + (whole < rps * seconds - TINY))


def spread(rps: float, seconds: float, arrivals: Arrivals, bursts: Bursts | None, seed: str) -> Sequence[float]:
    """Return the arrival times of a window in seconds, ascending, from 0 to below `seconds`."""
    number = requests_in(rps, seconds)
    if arrivals == "uniform" and bursts is None:
        return array("d", (slot / rps for slot in range(number)))
    chance = random.Random(seed)
    shares = sorted(chance.random() for _ in range(number)) if arrivals == "poisson" else _even(number)
    if bursts is None:
        return array("d", (share * seconds for share in shares))
    total = _offered_by(seconds, bursts)
    return array("d", (_time_of(share * total, bursts) for share in shares))


def replay(trace: Sequence[float], rps: float, seconds: float) -> Sequence[float]:
    """Return the arrival times of a window that replays `trace`, a cycle with a mean gap of 1, at `rps`."""
    times = array("d")
    for cycle in count():
        for offset in trace:
            time = (cycle * len(trace) + offset) / rps
            if time >= seconds - TINY:
                return times or array("d", [0.0])
            times.append(time)
    raise AssertionError("count() does not end")


def normalise(times: Sequence[float]) -> tuple[float, ...]:
    """Shift the times of a trace to begin at 0 and scale them to a mean gap of 1.

    Raises ValueError for fewer than two times, for times that are not ascending, or that are all equal.
    """
    if len(times) < 2:
        raise ValueError(f"a trace needs at least two times, not {len(times)}")
    gaps = [after - before for before, after in pairwise(times)]
    if min(gaps) < 0:
        raise ValueError(f"time {gaps.index(min(gaps)) + 2} is before the previous one")
    if times[-1] == times[0]:
        raise ValueError("all times are equal")
    scale = len(gaps) / (times[-1] - times[0])
    return tuple((time - times[0]) * scale for time in times)


def _even(number: int) -> list[float]:
    return [slot / number for slot in range(number)]


def _offered_by(time: float, bursts: Bursts) -> float:
    """Return the integral of the rate up to `time`. The rate is 1 between bursts."""
    cycle, rest = divmod(time, bursts.every_seconds)
    whole = bursts.every_seconds + (bursts.factor - 1) * bursts.seconds
    burst = min(max(rest - _begin(bursts), 0.0), bursts.seconds)
    return cycle * whole + rest + (bursts.factor - 1) * burst


def _time_of(offered: float, bursts: Bursts) -> float:
    """Return the time at which `_offered_by` has reached `offered`."""
    begin, extra = _begin(bursts), (bursts.factor - 1) * bursts.seconds
    cycle, rest = divmod(offered, bursts.every_seconds + extra)
    if rest > begin + bursts.seconds * bursts.factor:
        rest -= extra
    elif rest > begin:
        rest = begin + (rest - begin) / bursts.factor
    return cycle * bursts.every_seconds + rest


def _begin(bursts: Bursts) -> float:
    return (bursts.every_seconds - bursts.seconds) / 2
