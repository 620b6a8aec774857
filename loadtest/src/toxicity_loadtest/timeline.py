"""What happened during a run, over time: latency, rates, failures and CPU per interval. Without I/O.

The time is in seconds since the first window began. Windows of several workers are placed by the wall clock of the
process that began first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from toxicity_loadtest.figures import corrected, frame, served
from toxicity_loadtest.measurement import Observation
from toxicity_loadtest.records import Outcome, Window

if TYPE_CHECKING:
    import pandas as pd

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
    last = [max([w.order.seconds, *(record.end for record in w.records)]) for w in windows]
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

    table = frame(windows)
    begin = dict(zip((window.order.number for window in windows), begins(windows), strict=True))
    offset = table["window"].map(begin)
    end = max(band.end for band in bands(windows))
    width = max(MIN_INTERVAL, end / INTERVALS)
    edges = np.arange(0.0, end + width, width)
    good = table["outcome"] == Outcome.OK
    due, done = offset + table["scheduled_start"], offset + table["end"]
    left = [begin[window.order.number] + start for window in windows for start in window.omitted]
    groups = table.loc[good, "corrected_seconds"].astype(float).groupby((due[good] // width).astype(int))
    rows = pd.DataFrame({"p50": groups.quantile(0.5), "p95": groups.quantile(0.95)}).reindex(range(len(edges) - 1))
    rows["due"] = np.histogram([*due, *left], edges)[0] / width
    rows["answered"] = np.histogram(done[good], edges)[0] / width
    rows["failed"] = np.histogram(done[~good], edges)[0] / width
    rows.index = edges[:-1]
    rows.index.name = "seconds"
    return rows


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
