"""Records to figures; pure. Percentiles are exact: nearest rank over all raw times, never a histogram.

`actualRps` is successes divided by the measured window: its asked length, or until the last success ended when that is
later. A service that falls behind answers the window's requests after its end; counting that time keeps its figure
from being better than what it can carry. The price is a slightly low figure (by latency / seconds) for a service that
keeps up. A failure, such as a time-out, does not stretch the window.

Latency is given twice. As served: end - start. Corrected for coordinated omission: end - scheduled_start, which
counts the time a request had to wait for a user to become free, as Gil Tene's wrk2 does; a slot that no user was free
for before the window was over enters with seconds - scheduled_start, which it has waited at least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from toxicity_api.loadtest_status import BucketResult
from toxicity_api.spec import Slo
from toxicity_loadtest.records import Outcome, Record, Window

if TYPE_CHECKING:
    import pandas as pd

REACHED_SHARE = 0.95
"""Share of the requests due that must succeed for a rate to count as carried."""

MAX_FAILURES_SHARE = 0.01
"""Share of failed requests up to which a rate counts as carried."""

COLUMNS = ["window", "bucket", "requested_rps", "began_at", *Record._fields]
MAX_LAG_SECONDS = 0.05
MAX_CPU_SHARE = 0.9


def frame(windows: Sequence[Window]) -> pd.DataFrame:
    """One row per request of all windows, with the two latencies and the generator's lag in seconds."""
    import pandas as pd

    tables = [_rows(window) for window in windows if window.records]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    table = table[COLUMNS]
    table["outcome"] = table["outcome"].astype(str)
    table["seconds"] = table["end"] - table["start"]
    table["corrected_seconds"] = table["end"] - table["scheduled_start"]
    table["lag_seconds"] = (table["start"] - table["intended_start"]).clip(lower=0)
    return table


def _rows(window: Window) -> pd.DataFrame:
    import pandas as pd

    order = window.order
    table = pd.DataFrame.from_records(list(window.records), columns=list(Record._fields))
    return table.assign(window=order.number, bucket=order.name, requested_rps=order.rps, began_at=window.began_at)


def percentile(values: pd.Series[float], share: float) -> float | None:
    """The smallest observed value that at least `share` of the values do not exceed; None without values."""
    if values.empty:
        return None
    rank = math.ceil(share * len(values))
    return round(float(values.sort_values().iloc[max(rank, 1) - 1]), 6)


def served(windows: Sequence[Window]) -> pd.Series[float]:
    """Latencies of successes as served."""
    table = frame(windows)
    return table.loc[table["outcome"] == Outcome.OK, "seconds"].astype(float)


def corrected(windows: Sequence[Window]) -> pd.Series[float]:
    """Latencies of successes from their scheduled start, and the least waiting times of omitted slots."""
    import pandas as pd

    table = frame(windows)
    waited = [w.order.seconds - start for w in windows for start in w.omitted]
    sent = table.loc[table["outcome"] == Outcome.OK, "corrected_seconds"].astype(float)
    return pd.concat([sent, pd.Series(waited, dtype=float)], ignore_index=True) if waited else sent


def window_seconds(window: Window) -> float:
    """Length of the measured window, see the module's text."""
    return max([window.order.seconds, *(r.end for r in window.records if r.outcome is Outcome.OK)])


def bucket_result(window: Window) -> BucketResult:
    """The figures of one window."""
    good, true, lag = served([window]), corrected([window]), frame([window])["lag_seconds"]
    return BucketResult(
        name=window.order.name,
        requests=len(window.records),
        failures=len(window.records) - len(good),
        requested_rps=window.order.rps,
        actual_rps=round(len(good) / window_seconds(window), 4),
        omitted=len(window.omitted),
        p50_seconds=percentile(good, 0.50),
        p95_seconds=percentile(good, 0.95),
        p99_seconds=percentile(good, 0.99),
        p50_corrected_seconds=percentile(true, 0.50),
        p95_corrected_seconds=percentile(true, 0.95),
        p99_corrected_seconds=percentile(true, 0.99),
        lag_p95_seconds=percentile(lag, 0.95),
        lag_max_seconds=percentile(lag, 1.0),
    )


def meets_slo(result: BucketResult, slo: Slo, rps: float) -> bool:
    """Whether a window carried `rps` within the objective: rate reached, few failures, corrected p95 in time."""
    p95 = result.p95_seconds if result.p95_corrected_seconds is None else result.p95_corrected_seconds
    return (
        p95 is not None
        and p95 <= slo.p95_seconds
        and _carried_rps(result) >= REACHED_SHARE * rps
        and result.failures <= MAX_FAILURES_SHARE * result.requests
    )


def _carried_rps(result: BucketResult) -> float:
    """The asked rate times the share of successes among the requests due.

    Not actualRps: that counts the time of the last answer too, which a short window would take amiss.
    """
    if result.requested_rps is None or result.omitted is None:
        return result.actual_rps
    due = result.requests + result.omitted
    return result.requested_rps * (result.requests - result.failures) / due if due else 0.0


def overall(windows: Sequence[Window]) -> tuple[float, float | None, float | None]:
    """actualRps over the sum of all windows; p95 over all successes together, as served and corrected."""
    good = served(windows)
    seconds = sum(window_seconds(window) for window in windows)
    p95s = (percentile(good, 0.95), percentile(corrected(windows), 0.95))
    served_p95, corrected_p95 = (None if p95 is None else round(p95, 3) for p95 in p95s)
    return (round(len(good) / seconds, 2) if seconds else 0.0), served_p95, corrected_p95


def generator_saturated(windows: Sequence[Window]) -> bool:
    """Whether the generator ran out of CPU, or was late with a free user at hand (p95), in any window.

    A request that waits because every user waits for the service is the service's doing: see `users_exhausted`.
    """
    lags = (percentile(frame([window])["lag_seconds"], 0.95) or 0.0 for window in windows)
    return any(lag > MAX_LAG_SECONDS for lag in lags) or any(w.cpu_share > MAX_CPU_SHARE for w in windows)


def users_exhausted(windows: Sequence[Window]) -> bool:
    """Whether a window offered less than asked, since all users waited for the service when it was over."""
    return any(window.omitted for window in windows)


def failure_summary(windows: Sequence[Window]) -> str:
    """Failures by kind and status code, most frequent first, such as `12 x http error 503`; empty without any."""
    table = frame(windows)
    failed = table[table["outcome"] != Outcome.OK]
    if failed.empty:
        return ""
    kinds = failed["outcome"] + failed["status_code"].map(lambda code: f" {code}" if code else "")
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.value_counts().items())
