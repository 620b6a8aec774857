"""Compute figures from records, without I/O. Percentiles are exact: nearest rank over all raw times.

`actualRps` is the number of successes divided by the length of the measured window. The window ends after its requested
length, or with the last success if that is later. An overloaded service answers requests after the window's end, and
without that time its rate would look too high. The rate of a service that keeps up is slightly low, by
latency / seconds. A failure such as a timeout does not extend the window.

Latency is reported twice:

- As served: end - start.
- Corrected for coordinated omission, as in Gil Tene's wrk2: end - scheduled_start. It includes the wait for a user,
  which happens only at the limit of open requests.
  A slot without a free user counts with seconds - scheduled_start, the shortest time that it waited.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from toxicity_api.loadtest_status import BucketResult
from toxicity_api.spec import Slo
from toxicity_loadtest.records import Record, Window
from toxicity_loadtest.spill import OK, OUTCOMES, chunks, column, succeeded
from toxicity_loadtest.steady import backlog_grows, p95_interval

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from toxicity_loadtest.spill import Rows

    Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]

REACHED_SHARE = 0.95
"""Minimum share of successes among the scheduled requests with which a rate counts as carried."""

MAX_FAILURES_SHARE = 0.01
"""Maximum share of failed requests with which a rate counts as carried."""

COLUMNS = [
    "window", "bucket", "requested_rps", "began_at", *Record._fields, "seconds", "corrected_seconds", "lag_seconds",
]  # fmt: skip
"""Columns of requests.csv."""

MAX_LAG_SECONDS = 0.05
MAX_CPU_SHARE = 0.9


def frames(windows: Sequence[Window]) -> Iterator[pd.DataFrame]:
    """Yield tables of at most 100 000 rows, one row per request of all windows, with the columns COLUMNS.

    All times are in seconds.
    """
    for window in windows:
        for rows in chunks(window.records):
            yield _frame(window, rows)


def _frame(window: Window, rows: Rows) -> pd.DataFrame:
    import pandas as pd

    order, table = window.order, pd.DataFrame({name: rows[name] for name in Record._fields})
    return table.assign(
        window=order.number,
        bucket=order.name,
        requested_rps=order.rps,
        began_at=window.began_at,
        outcome=[str(OUTCOMES[code]) for code in rows["outcome"]],
        seconds=table["end"] - table["start"],
        corrected_seconds=table["end"] - table["scheduled_start"],
        lag_seconds=(table["start"] - table["intended_start"]).clip(lower=0),
    )[COLUMNS]


def _join(parts: Iterable[Numbers]) -> pd.Series[float]:
    import numpy as np
    import pandas as pd

    return pd.Series(np.concatenate([np.empty(0), *parts]))


def percentile(values: pd.Series[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of the values do not exceed; None without values."""
    import numpy as np

    if values.empty:
        return None
    index = max(math.ceil(share * len(values)), 1) - 1
    return round(float(np.partition(values.to_numpy(), index)[index]), 6)


def served(windows: Sequence[Window]) -> pd.Series[float]:
    """Return the latencies of successes as served, in seconds."""
    return _join((column(w.records, "end") - column(w.records, "start"))[succeeded(w.records)] for w in windows)


def corrected(windows: Sequence[Window]) -> pd.Series[float]:
    """Return the corrected latencies of successes and the shortest waits of omitted slots, in seconds."""
    import numpy as np

    waited = [np.array([w.order.seconds - start for start in w.omitted], dtype=float) for w in windows]
    return _join([*(_corrected(window)[succeeded(window.records)] for window in windows), *waited])


def _corrected(window: Window) -> Numbers:
    return column(window.records, "end") - column(window.records, "scheduled_start")


def lag(window: Window) -> pd.Series[float]:
    """Return the generator's own delay of each request, in seconds."""
    late = column(window.records, "start") - column(window.records, "intended_start")
    return _join([late.clip(min=0)])


def window_seconds(window: Window) -> float:
    """Return the length of the measured window in seconds, as the module's docstring defines it."""
    return float(column(window.records, "end")[succeeded(window.records)].max(initial=window.order.seconds))


def bucket_result(window: Window) -> BucketResult:
    """Compute the figures of one window."""
    good, true, late = served([window]), corrected([window]), lag(window)
    interval = p95_interval(window)
    return BucketResult(
        name=window.order.name,
        requests=len(window.records),
        failures=len(window.records) - len(good),
        requested_rps=window.order.rps,
        actual_rps=round(len(good) / window_seconds(window), 4),
        omitted=len(window.omitted),
        delayed=delayed(window),
        open_requests_peak=window.open_peak,
        p50_seconds=percentile(good, 0.50),
        p95_seconds=percentile(good, 0.95),
        p99_seconds=percentile(good, 0.99),
        p50_corrected_seconds=percentile(true, 0.50),
        p95_corrected_seconds=percentile(true, 0.95),
        p99_corrected_seconds=percentile(true, 0.99),
        p95_corrected_low_seconds=interval and interval[0],
        p95_corrected_high_seconds=interval and interval[1],
        backlog_grows=backlog_grows(window),
        lag_p95_seconds=percentile(late, 0.95),
        lag_max_seconds=percentile(late, 1.0),
    )


def meets_slo(result: BucketResult, slo: Slo, rps: float) -> bool:
    """Whether a window carried `rps` within the SLO: steady, enough successes, few failures, corrected p95 in time."""
    p95 = result.p95_seconds if result.p95_corrected_seconds is None else result.p95_corrected_seconds
    return (
        p95 is not None
        and p95 <= slo.p95_seconds
        and not result.backlog_grows
        and _carried_rps(result) >= REACHED_SHARE * rps
        and result.failures <= MAX_FAILURES_SHARE * result.requests
    )


def _carried_rps(result: BucketResult) -> float:
    """Return the requested rate times the share of successes among the scheduled requests.

    actualRps is not used: it includes the time of the last answer, which matters in a short window.
    """
    if result.requested_rps is None or result.omitted is None:
        return result.actual_rps
    due = result.requests + result.omitted
    return result.requested_rps * (result.requests - result.failures) / due if due else 0.0


def overall(windows: Sequence[Window]) -> tuple[float, float | None, float | None]:
    """Return actualRps over all windows, and p95 in seconds over all successes, as served and corrected."""
    good = served(windows)
    seconds = sum(window_seconds(window) for window in windows)
    p95s = (percentile(good, 0.95), percentile(corrected(windows), 0.95))
    served_p95, corrected_p95 = (None if p95 is None else round(p95, 3) for p95 in p95s)
    return (round(len(good) / seconds, 2) if seconds else 0.0), served_p95, corrected_p95


def generator_saturated(windows: Sequence[Window]) -> bool:
    """Whether the generator ran out of CPU, or sent requests late although a user was free (p95), in any window.

    Requests that wait because all users wait for the service are not counted: see `users_exhausted`.
    """
    lags = (percentile(lag(window), 0.95) or 0.0 for window in windows)
    return any(lag > MAX_LAG_SECONDS for lag in lags) or any(w.cpu_share > MAX_CPU_SHARE for w in windows)


def delayed(window: Window) -> int:
    """Return the number of requests that were sent late or omitted because all users waited for the service."""
    late = column(window.records, "intended_start") > column(window.records, "scheduled_start")
    return int(late.sum()) + len(window.omitted)


def users_exhausted(windows: Sequence[Window]) -> bool:
    """Whether a window offered less than requested, because all users waited for the service at its end."""
    return any(window.omitted for window in windows)


def failure_summary(windows: Sequence[Window]) -> str:
    """Return failures by kind and status code, most frequent first, such as `12 x http error 503`."""
    kinds: Counter[str] = Counter()
    for rows in (rows for window in windows for rows in chunks(window.records)):
        failed = rows[rows["outcome"] != OK]
        pairs = zip(failed["outcome"].tolist(), failed["status_code"].tolist(), strict=True)
        kinds.update(f"{OUTCOMES[outcome]} {code}" if code else str(OUTCOMES[outcome]) for outcome, code in pairs)
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
