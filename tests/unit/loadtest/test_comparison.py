"""Compare two runs: what is comparable, and what is worse beyond the intervals."""

from __future__ import annotations

import pytest

from toxicity_api.loadtest_status import Baseline, BucketResult, Comparison, LoadTestStatus
from toxicity_loadtest.comparison import baseline_of as any_baseline
from toxicity_loadtest.comparison import compare


def mix(**fields: object) -> BucketResult:
    base: dict[str, object] = {
        "name": "mixed",
        "requests": 300,
        "failures": 0,
        "actualRps": 10.0,
        "requestedRps": 10.0,
    }
    return BucketResult.model_validate(base | fields)


def timed(p95: float, low: float, high: float, **fields: object) -> BucketResult:
    interval = {"p95CorrectedSeconds": p95, "p95CorrectedLowSeconds": low, "p95CorrectedHighSeconds": high}
    return mix(**interval, **fields)


def found(most: float, beyond: float | None) -> BucketResult:
    return mix(maxRpsWithinSlo=most, lowestRpsBeyondSlo=beyond)


def a_run(mixed: BucketResult | None, **fields: object) -> LoadTestStatus:
    base: dict[str, object] = {
        "fingerprint": "f1", "runId": "1", "state": "Complete", "users": 256, "requestedRps": 10.0, "mode": "fixed",
        "arrivals": "poisson", "sloP95Seconds": 1.0, "replicasAtEnd": 2,
    }  # fmt: skip
    return LoadTestStatus.model_validate(base | fields).model_copy(update={"mixed": mixed})


def baseline_of(previous: LoadTestStatus | None) -> Baseline | None:
    """The baseline for another version, with onRegression: Report."""
    return any_baseline(previous, "other", rolls_back=False)


@pytest.mark.parametrize(
    ("now", "regressed"),
    [
        (timed(0.31, 0.26, 0.36), True),
        (timed(0.31, 0.25, 0.36), False),
        (timed(0.21, 0.18, 0.24), False),
        (timed(0.10, 0.09, 0.11), False),
    ],
)
def test_p95_is_worse_only_beyond_both_intervals(now: BucketResult, regressed: bool) -> None:
    before = baseline_of(a_run(timed(0.20, 0.17, 0.25)))
    result = compare(before, a_run(now, servingFingerprint="other"))
    assert result is not None and result.regressed is regressed
    assert result.p95_change == pytest.approx((now.p95_corrected_seconds or 0) / 0.20 - 1, abs=1e-4)


def test_small_change_of_a_steady_service_is_no_regression() -> None:
    before = baseline_of(a_run(timed(0.100, 0.100, 0.100)))
    slower = compare(before, a_run(timed(0.104, 0.104, 0.104)))
    assert slower is not None and not slower.regressed
    slower = compare(before, a_run(timed(0.107, 0.107, 0.107)))
    assert slower is not None and slower.regressed
    assert slower.message == (
        "p95 of the mix is 0.107 s (0.107 to 0.107) at 10 requests/s; it was 0.100 s (0.100 to 0.100)"
    )


@pytest.mark.parametrize(
    ("now", "regressed", "change"),
    [
        (found(36.0, 38.0), True, -0.1),
        (found(38.0, 40.5), False, -0.05),
        (found(36.0, 41.0), False, -0.1),
        (found(44.0, None), False, 0.1),
        (found(0.0, 0.1), True, -1.0),
    ],
)
def test_capacity_is_worse_only_below_the_interval(now: BucketResult, regressed: bool, change: float) -> None:
    before = baseline_of(a_run(found(40.0, 42.0), mode="search"))
    result = compare(before, a_run(now, mode="search"))
    assert result is not None
    assert (result.regressed, result.capacity_change) == (regressed, pytest.approx(change, abs=1e-4))


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "search"},
        {"arrivals": "uniform"},
        {"route": "openai"},
        {"textsPerRequest": 4},
        {"bucketUnit": "tokens"},
        {"sloP95Seconds": 0.5},
        {"replicasAtEnd": 3},
        {"replicasChanged": True},
    ],
)
def test_other_load_or_replicas_are_not_compared(fields: dict[str, object]) -> None:
    before = baseline_of(a_run(timed(0.20, 0.17, 0.25)))
    assert compare(before, a_run(timed(0.5, 0.4, 0.6), **fields)) is None
    assert compare(before, a_run(timed(0.5, 0.4, 0.6, requestedRps=11.0))) is None
    assert compare(None, a_run(timed(0.5, 0.4, 0.6))) is None


def test_baseline_outlives_a_run_that_failed() -> None:
    complete = a_run(timed(0.20, 0.17, 0.25), servingFingerprint="good")
    failed = a_run(None, state="Failed", fingerprint="f2").model_copy(update={"baseline": baseline_of(complete)})
    kept = baseline_of(failed)
    assert kept is not None
    assert (kept.fingerprint, kept.serving_fingerprint, kept.replicas) == ("f1", "good", 2)
    assert baseline_of(None) is None


def test_run_of_an_earlier_release_without_intervals_is_not_compared() -> None:
    old = a_run(mix(p95CorrectedSeconds=0.2), arrivals="poisson")
    assert compare(baseline_of(old), a_run(timed(0.5, 0.4, 0.6))) is None


@pytest.mark.parametrize(
    ("version", "rolls_back", "regressed", "fingerprint"),
    [
        ("slow", False, True, "f1"),
        ("slow", True, True, "f1"),
        ("third", True, True, "f1"),
        ("third", False, True, "f2"),
        ("slow", False, False, "f2"),
        ("slow", True, False, "f2"),
        (None, False, True, "f2"),
    ],
)
def test_regressed_run_is_no_baseline_for_its_own_version(
    version: str | None, rolls_back: bool, regressed: bool, fingerprint: str
) -> None:
    good = a_run(timed(0.20, 0.17, 0.25), servingFingerprint="good")
    slow = a_run(timed(0.50, 0.45, 0.55), servingFingerprint="slow", fingerprint="f2").model_copy(
        update={"baseline": baseline_of(good), "comparison": Comparison(regressed=regressed, message="p95")}
    )
    kept = any_baseline(slow, version, rolls_back=rolls_back)
    assert kept is not None and kept.fingerprint == fingerprint
