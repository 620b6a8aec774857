"""Records to figures; pure. Percentiles are exact (nearest rank over all raw times of successes, failures apart).

`actualRps` is successes divided by the measured window: `secondsPerBucket`, or until the last success ended when
that is later. A service that falls behind answers the window's requests after its end; counting that time keeps
its figure from being better than what it can carry. The price is a slightly low figure (by latency / seconds) for
a service that keeps up. A failure, such as a time-out, does not stretch the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from toxicity_api.buckets import Bucket
from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.records import Outcome, Record, Window

if TYPE_CHECKING:
    import pandas as pd

REACHED_SHARE = 0.95
"""Share of the RPS to carry from which a bucket counts as carrying it."""

MOST_LAG_SECONDS = 0.05
MOST_CPU_CORES = 0.9

COLUMNS = ["bucket", "intended_start", "start", "end", "outcome", "status_code"]


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per request, with `seconds` (latency) and `lag_seconds` (lateness of the generator) added."""
    import pandas as pd

    table = pd.DataFrame([asdict(record) for record in records], columns=COLUMNS)
    table["seconds"] = table["end"] - table["start"]
    table["lag_seconds"] = (table["start"] - table["intended_start"]).clip(lower=0)
    return table


def percentile(values: pd.Series[float], share: float) -> float | None:
    """The smallest observed value that at least `share` of the values do not exceed; None without values."""
    if values.empty:
        return None
    rank = math.ceil(share * len(values))
    return round(float(values.sort_values().iloc[max(rank, 1) - 1]), 6)


def window_seconds(window: Window) -> float:
    """Length of the measured window, see the module's text."""
    last = max((r.end for r in window.records if r.outcome is Outcome.OK), default=window.begin)
    return max(window.seconds, last - window.begin)


def bucket_result(window: Window) -> BucketResult:
    """The figures of one bucket."""
    good = _successes(window.records)
    return BucketResult(
        name=window.bucket,
        requests=len(window.records),
        failures=len(window.records) - len(good),
        actual_rps=round(len(good) / window_seconds(window), 4),
        p50_seconds=percentile(good, 0.50),
        p95_seconds=percentile(good, 0.95),
        p99_seconds=percentile(good, 0.99),
    )


def overall(windows: Sequence[Window]) -> tuple[float, float | None]:
    """actualRps over the sum of all measured windows, and p95 over all successes together, as a table shows them."""
    good = _successes([record for window in windows for record in window.records])
    seconds = sum(window_seconds(window) for window in windows)
    p95 = percentile(good, 0.95)
    return (round(len(good) / seconds, 2) if seconds else 0.0), (None if p95 is None else round(p95, 3))


def max_length_at_requested_rps(results: Sequence[tuple[Bucket, BucketResult]], spec: LoadTestSpec) -> int | None:
    """Upper edge of the longest bucket that carried 95 % of the SLO's RPS with its p95 within the SLO."""
    wanted = REACHED_SHARE * (spec.slo.rps or spec.requested_rps)
    lengths = [
        bucket.high
        for bucket, result in results
        if result.actual_rps >= wanted
        and result.p95_seconds is not None
        and result.p95_seconds <= spec.slo.p95_seconds
    ]
    return max(lengths, default=None)


def generator_saturated(windows: Sequence[Window]) -> bool:
    """Whether the generator was late by its own fault (p95 of its lag) or out of CPU in any window."""
    lag = percentile(frame([r for w in windows for r in w.records])["lag_seconds"], 0.95)
    return (lag or 0.0) > MOST_LAG_SECONDS or any(window.cpu_cores > MOST_CPU_CORES for window in windows)


def failure_summary(records: Sequence[Record]) -> str:
    """Failures by kind and status code, most frequent first, such as `12 x http error 503`; empty without any."""
    failed = frame([record for record in records if record.outcome is not Outcome.OK])
    if failed.empty:
        return ""
    kinds = failed["outcome"].astype(str) + failed["status_code"].map(lambda code: f" {code}" if code else "")
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.value_counts().items())


def format_table(status: LoadTestStatus) -> str:
    """The result as a table of at most 80 columns, latencies in milliseconds."""
    head = ("bucket", "requests", "failures", "RPS asked", "actual", "p50 ms", "p95 ms", "p99 ms")
    widths = (11, 9, 9, 10, 9, 9, 9, 9)
    rows = [head] + [
        (
            result.name,
            str(result.requests),
            str(result.failures),
            f"{status.requested_rps:.2f}",
            f"{result.actual_rps:.2f}",
            *(_milliseconds(s) for s in (result.p50_seconds, result.p95_seconds, result.p99_seconds)),
        )
        for result in status.buckets
    ]
    return "\n".join("".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _successes(records: Sequence[Record]) -> pd.Series[float]:
    table = frame(records)
    return table.loc[table["outcome"] == Outcome.OK, "seconds"]


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
