"""What happened during a run, over time: latency, rates, failures and CPU per interval. Without I/O.

The time is in seconds since the first window began. Windows of several workers are placed by the wall clock of the
process that began first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from toxicity_loadtest.figures import corrected, served
from toxicity_loadtest.measurement import Observation
from toxicity_loadtest.records import Window
from toxicity_loadtest.spill import column, succeeded

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]

INTERVALS = 240
"""Number of points of a chart. A longer run has longer intervals."""

MIN_INTERVAL = 1.0
QUANTILES = 200


@dataclass(frozen=True)
class Band:
    """A window's name and time, in seconds since the first window began."""

    name: str
    begin: float
    end: float


def begins(windows: Sequence[Window]) -> list[float]:
    """Return when each window began, in seconds since the first one."""
    times = [datetime.fromisoformat(window.began_at).timestamp() if window.began_at else 0.0 for window in windows]
    return [time - times[0] for time in times]


def bands(windows: Sequence[Window]) -> list[Band]:
    """Return the time of each window until its last answer."""
    last = [float(column(w.records, "end").max(initial=w.order.seconds)) for w in windows]
    return [
        Band(window.order.name, begin, begin + seconds)
        for window, begin, seconds in zip(windows, begins(windows), last, strict=True)
    ]


def per_interval(windows: Sequence[Window]) -> pd.DataFrame:
    """Return one row per interval, with the index `seconds` at its begin.

    Columns: `p50` and `p95` of the corrected latency in seconds of the requests due in it, NaN without one, and the
    rates `due`, `answered` and `failed` per second.
    """
    import numpy as np
    import pandas as pd

    end = max(band.end for band in bands(windows))
    width = max(MIN_INTERVAL, end / INTERVALS)
    edges = np.arange(0.0, end + width, width)
    counts = {name: np.zeros(len(edges) - 1) for name in ("due", "answered", "failed")}
    interval, latency = [], []
    for window, begin in zip(windows, begins(windows), strict=True):
        good = succeeded(window.records)
        start, done = column(window.records, "scheduled_start"), column(window.records, "end")
        interval.append(((begin + start[good]) // width).astype(np.int16))
        latency.append((done - start)[good])
        left = np.array(window.omitted, dtype=float)
        for name, times in (("due", start), ("due", left), ("answered", done[good]), ("failed", done[~good])):
            counts[name] += np.histogram(begin + times, edges)[0]
    rows = pd.DataFrame(_quantiles(np.concatenate(interval), np.concatenate(latency), len(edges) - 1))
    for name, counted in counts.items():
        rows[name] = counted / width
    rows.index = edges[:-1]
    rows.index.name = "seconds"
    return rows


def _quantiles(interval: Numbers, latency: Numbers, intervals: int) -> dict[str, Numbers]:
    """Return p50 and p95 of the latency in each interval; NaN without one."""
    import numpy as np

    latency = latency[np.argsort(interval, kind="stable")]
    parts = np.split(latency, np.cumsum(np.bincount(interval, minlength=intervals))[:-1])
    found = [np.quantile(part, [0.5, 0.95]) if len(part) else (np.nan, np.nan) for part in parts]
    return dict(zip(("p50", "p95"), np.array(found[:intervals]).T, strict=True))


def distribution(window: Window) -> list[tuple[float, float, float]]:
    """Return share, latency as served and corrected latency, in seconds, for evenly spaced shares of the requests."""
    import numpy as np

    shares = np.linspace(0.0, 1.0, QUANTILES + 1)
    good = served([window])
    if good.empty:
        return []
    return list(zip(shares, good.quantile(shares), corrected([window]).quantile(shares), strict=True))


def cpu(windows: Sequence[Window]) -> list[tuple[float, float]]:
    """Return time and CPU use of the busiest generator process, as a share of what it may use."""
    return sorted(
        (begin + at, share)
        for window, begin in zip(windows, begins(windows), strict=True)
        for at, share in window.cpu
    )


def pod_cpu(windows: Sequence[Window], observed: Sequence[Observation]) -> dict[str, list[tuple[float, float]]]:
    """Return time and CPU in cores of each serving pod, at the end of the windows after which it was observed."""
    ends = {window.order.number: band.end for window, band in zip(windows, bands(windows), strict=True)}
    found: dict[str, list[tuple[float, float]]] = {}
    for seen in observed:
        for pod, cores in seen.cpu.items():
            if seen.window in ends:
                found.setdefault(pod, []).append((ends[seen.window], cores))
    return found
