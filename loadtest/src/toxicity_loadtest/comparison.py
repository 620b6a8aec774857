"""Compare a run with the last complete one. Without I/O.

Two runs are comparable if they offered the same load, with the same objective, to the same number of replicas. The
served version may differ. A run is worse only if the intervals of both runs do not overlap, so that chance is no
regression, and if the change exceeds MIN_CHANGE, since a very steady service has a very short interval.
"""

from __future__ import annotations

from toxicity_api.loadtest_status import Baseline, BucketResult, Comparison, LoadTestStatus

MIN_CHANGE = 0.05


def offered(run: LoadTestStatus | Baseline) -> tuple[object, ...]:
    """Return what two runs must have in common to be comparable. Earlier releases had only the values named here."""
    return (
        run.arrivals or "uniform",
        run.route or "classify",
        run.texts_per_request or 1,
        run.bucket_unit or "characters",
        run.slo_p95_seconds,
    )


def baseline_of(previous: LoadTestStatus | None, version: str | None, *, rolls_back: bool) -> Baseline | None:
    """Return the baseline for a new run of `version`: the previous run if it was complete, or else its baseline.

    A regressed run is no baseline for the same version, which would make a second run of it look as good as before.
    With `rolls_back` it is none for any version, because the regressed one no longer serves.
    """
    if previous is None or previous.state != "Complete" or previous.mixed is None or previous.replicas_changed:
        return previous.baseline if previous else None
    is_slower = previous.comparison is not None and previous.comparison.regressed
    if is_slower and (rolls_back or previous.serving_fingerprint == version):
        return previous.baseline
    return Baseline(
        fingerprint=previous.fingerprint,
        serving_fingerprint=previous.serving_fingerprint,
        finished_at=previous.finished_at,
        mode=previous.mode,
        arrivals=previous.arrivals,
        route=previous.route,
        texts_per_request=previous.texts_per_request,
        bucket_unit=previous.bucket_unit,
        slo_p95_seconds=previous.slo_p95_seconds,
        replicas=previous.replicas_at_end,
        mixed=previous.mixed,
    )


def compare(before: Baseline | None, now: LoadTestStatus) -> Comparison | None:
    """Compare the mix of a complete run with the baseline; None if the two are not comparable."""
    if before is None or now.mixed is None or now.replicas_changed:
        return None
    then_and_now = ((before.mode, before.replicas), (now.mode, now.replicas_at_end))
    if then_and_now[0] != then_and_now[1] or offered(before) != offered(now):
        return None
    return (_of_capacity if now.mode == "search" else _of_p95)(before.mixed, now.mixed)


def _of_p95(before: BucketResult, now: BucketResult) -> Comparison | None:
    old = (before.p95_corrected_seconds, before.p95_corrected_low_seconds, before.p95_corrected_high_seconds)
    new = (now.p95_corrected_seconds, now.p95_corrected_low_seconds, now.p95_corrected_high_seconds)
    if before.requested_rps != now.requested_rps or not all(old) or None in new:
        return None
    p95, low, high = new
    p95_before, low_before, high_before = old
    assert p95 is not None and low is not None and p95_before and high_before
    change = p95 / p95_before - 1
    return Comparison(
        regressed=low > high_before and change > MIN_CHANGE,
        p95_change=round(change, 4),
        message=f"p95 of the mix is {p95:.3f} s ({low:.3f} to {high:.3f}) at {now.requested_rps:g} requests/s;"
        f" it was {p95_before:.3f} s ({low_before:.3f} to {high_before:.3f})",
    )


def _of_capacity(before: BucketResult, now: BucketResult) -> Comparison | None:
    if not before.max_rps_within_slo or now.max_rps_within_slo is None:
        return None
    change = now.max_rps_within_slo / before.max_rps_within_slo - 1
    ceiling = now.lowest_rps_beyond_slo
    return Comparison(
        regressed=ceiling is not None and ceiling <= before.max_rps_within_slo and change < -MIN_CHANGE,
        capacity_change=round(change, 4),
        message=f"capacity for the mix is {_between(now)} requests/s; it was {_between(before)}",
    )


def _between(result: BucketResult) -> str:
    beyond = result.lowest_rps_beyond_slo
    return f"{result.max_rps_within_slo:.2f}" + (" or more" if beyond is None else f" to {beyond:.2f}")
