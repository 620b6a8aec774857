"""Whether a window was in a steady state, and how exact its 95th percentile is. Without I/O.

The backlog at a time is the number of requests that were due and had not ended. Below the capacity of the service it
varies about a mean. Above it grows until the end of the window, however short the latencies still are. It counts as
growing if it stays higher during the last quarter of the window than it was during the first half. In a window shorter
than twice the latency it always grows, so such a window shows nothing.

Successive latencies depend on each other through the queue. The interval is therefore a bootstrap of consecutive blocks
(Kuensch, The Jackknife and the Bootstrap for General Stationary Observations, 1989).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toxicity_loadtest.records import Window
from toxicity_loadtest.spill import column, succeeded

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]

POINTS = 400
"""Times at which the backlog of a window is counted."""

LOW, HIGH = 0.1, 0.9
"""Quantiles of the backlog that are compared. A stall of a tenth of the first half is no reason to miss growth."""

BLOCKS, RESAMPLES = 20, 400
CONFIDENCE = 0.95


def backlog(window: Window, times: Numbers) -> Numbers:
    """Return the number of requests at each of `times` that were due and had not ended."""
    import numpy as np

    due = np.sort(np.concatenate([column(window.records, "scheduled_start"), _floats(window.omitted)]))
    ended = np.sort(column(window.records, "end"))
    open_at = np.searchsorted(due, times, side="right") - np.searchsorted(ended, times, side="right")
    return open_at.astype(float)


def backlog_grows(window: Window) -> bool:
    """Whether the backlog grew from the first half of the window to its last quarter."""
    import numpy as np

    counts = backlog(window, np.linspace(0.0, window.order.seconds, POINTS, endpoint=False))
    before, after = counts[: POINTS // 2], counts[-POINTS // 4 :]
    return bool(np.quantile(after, LOW) > np.quantile(before, HIGH))


def p95_interval(window: Window) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the corrected p95 in seconds; None with fewer values than blocks."""
    import numpy as np

    values = _in_order_of_schedule(window)
    if len(values) < BLOCKS:
        return None
    order = np.argsort(values)
    block = ((order * BLOCKS) // len(values)).astype(np.uint8)
    chance = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(chance.integers(BLOCKS, size=BLOCKS), minlength=BLOCKS)
        total = np.cumsum(drawn[block])
        found.append(values[order[np.searchsorted(total, math.ceil(0.95 * total[-1]))]])
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return round(float(low), 6), round(float(high), 6)


def _in_order_of_schedule(window: Window) -> Numbers:
    """Return the corrected latencies of successes and the shortest waits of omitted slots, by scheduled start."""
    import numpy as np

    good, left = succeeded(window.records), _floats(window.omitted)
    start = column(window.records, "scheduled_start")
    seconds = np.concatenate([(column(window.records, "end") - start)[good], window.order.seconds - left])
    return seconds[np.lexsort((seconds, np.concatenate([start[good], left])))]


def _floats(values: Sequence[float]) -> Numbers:
    import numpy as np

    return np.array(values, dtype=np.float64)
