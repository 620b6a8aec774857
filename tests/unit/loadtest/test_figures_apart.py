"""Figures in which every percentile is another value, and the objective exactly at each of its bounds."""

from __future__ import annotations

import pytest

from support.loadtest.windows import a_record, a_window
from toxicity_api.loadtest_status import BucketResult
from toxicity_api.spec import Slo
from toxicity_loadtest.figures import bucket_result, generator_saturated, lag, meets_slo, overall
from toxicity_loadtest.records import Outcome


def test_each_percentile_is_of_its_own_latency() -> None:
    """The k-th request is served in k ms, its user was k/100 s late beyond 1 s, and the generator k/10 ms."""
    records = [a_record(k / 1000, start=5.0, waited=1 + k / 100, lag=k / 10_000) for k in range(1, 101)]
    result = bucket_result(a_window(*records, name="101-200", rps=20.0))
    assert (result.p50_seconds, result.p95_seconds, result.p99_seconds) == (0.05, 0.095, 0.099)
    corrected = (result.p50_corrected_seconds, result.p95_corrected_seconds, result.p99_corrected_seconds)
    assert corrected == pytest.approx((1.555, 2.0545, 2.0989))
    assert (result.lag_p95_seconds, result.lag_max_seconds) == pytest.approx((0.0095, 0.01))
    assert (result.name, result.requested_rps, result.requests, result.failures) == ("101-200", 20.0, 100, 0)


def measured(**changes: float | None) -> BucketResult:
    """100 requests at 10/s, all of them answered in time."""
    fields: dict[str, object] = {
        "name": "x", "requests": 100, "failures": 0, "requested_rps": 10.0, "actual_rps": 9.0, "omitted": 0,
        "p95_seconds": 0.5, "p95_corrected_seconds": 1.0,
    }  # fmt: skip
    return BucketResult.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "rps", "within"),
    [
        ({}, 10.0, True),
        ({"p95_corrected_seconds": 1.0001}, 10.0, False),
        ({"p95_seconds": 2.0}, 10.0, True),
        ({"p95_corrected_seconds": None}, 10.0, True),
        ({"p95_corrected_seconds": None, "p95_seconds": 1.0001}, 10.0, False),
        ({"p95_corrected_seconds": None, "p95_seconds": None}, 10.0, False),
        ({"failures": 1}, 10.0, True),
        ({"failures": 1}, 10.5, False),
        ({"failures": 2}, 10.0, False),
        ({"omitted": 5, "requests": 95}, 10.0, True),
        ({"omitted": 6, "requests": 94}, 10.0, False),
        ({}, 10.5, True),
        ({}, 10.6, False),
        ({"omitted": None}, 9.4, True),
        ({"omitted": None}, 10.0, False),
        ({"requested_rps": None}, 9.4, True),
        ({"requested_rps": None}, 10.0, False),
        ({"requests": 0}, 10.0, False),
        ({"requests": 0}, 1.0, False),
        ({"requests": 0}, 0.0, True),
    ],
)
def test_objective_is_held_against_the_corrected_latency_the_rate_and_the_failures(
    changes: dict[str, float | None], rps: float, within: bool
) -> None:
    assert meets_slo(measured(**changes), Slo(p95_seconds=1.0), rps) is within


def test_failures_have_no_latency_and_do_not_lengthen_the_window() -> None:
    good = [a_record(0.1, start=1.0)] * 50
    failed = [a_record(29.0, start=9.0, outcome=Outcome.TIMEOUT)] * 2
    result = bucket_result(a_window(*good, *failed))
    assert (result.actual_rps, result.failures, result.p99_seconds) == (5.0, 2, pytest.approx(0.1))
    late = bucket_result(a_window(*good, a_record(10.0, start=10.0)))
    assert late.actual_rps == pytest.approx(51 / 20)


@pytest.mark.parametrize(
    ("lag", "cpu_share", "saturated"), [(0.05, 0.9, False), (0.051, 0.1, True), (0.0, 0.901, True)]
)
def test_generator_is_saturated_beyond_its_bounds_only(lag: float, cpu_share: float, saturated: bool) -> None:
    records = [a_record(start=lag, lag=lag)] * 20
    assert generator_saturated([a_window(*records, cpu_share=cpu_share)]) is saturated


def test_interval_of_the_corrected_p95_has_its_low_end_first() -> None:
    """Every other second is slow, and all requests of a second depend on each other."""
    slow = [
        a_record(0.1 + second % 2 * (1 + part / 10), start=second + part / 10)
        for second in range(10)
        for part in range(10)
    ]
    result = bucket_result(a_window(*slow))
    low, p95, high = (
        result.p95_corrected_low_seconds,
        result.p95_corrected_seconds,
        result.p95_corrected_high_seconds,
    )
    assert low is not None and p95 is not None and high is not None
    assert 1.1 <= low < p95 < high <= 2.0


def test_requests_that_waited_and_those_never_sent_are_delayed() -> None:
    sent = [a_record(start=1.0), a_record(start=2.0, waited=0.5), a_record(start=3.0, lag=0.2)]
    assert bucket_result(a_window(*sent, omitted=[7.0, 9.5])).delayed == 3


def test_rates_and_times_are_rounded_for_display() -> None:
    records = [a_record(0.12345678, start=2.0)] * 2
    window = a_window(*records, seconds=12.0, rps=0.16)
    assert overall([window]) == (0.17, 0.123, 0.123)
    assert bucket_result(window).actual_rps == 0.1667


def test_request_that_is_sent_early_has_no_lag() -> None:
    lags = lag(a_window(a_record(start=1.0, lag=-0.0004), a_record(start=2.0, lag=0.3)))
    assert sorted(lags) == pytest.approx([0.0, 0.3])
    assert lags.min() == 0.0
