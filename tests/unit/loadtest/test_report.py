from __future__ import annotations

import pytest

from toxicity_api.buckets import Bucket
from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_api.spec import LoadTestSpec, Slo
from toxicity_loadtest.records import Outcome, Record, Window
from toxicity_loadtest.report import (
    bucket_result,
    failure_summary,
    format_table,
    generator_saturated,
    max_length_at_requested_rps,
    overall,
)


def a_record(
    seconds: float = 0.1, *, start: float = 50.0, lag: float = 0.0, outcome: Outcome = Outcome.OK
) -> Record:
    return Record("1-100", start - lag, start, start + seconds, outcome, 200 if outcome is Outcome.OK else 0)


def a_window(*records: Record, seconds: float = 10.0, cpu_cores: float = 0.1) -> Window:
    return Window("1-100", seconds, begin=50.0, cpu_cores=cpu_cores, records=list(records))


def a_result(actual_rps: float, p95_seconds: float | None) -> BucketResult:
    return BucketResult(name="x", requests=1, failures=0, actual_rps=actual_rps, p95_seconds=p95_seconds)


def test_percentiles_are_observed_values_of_successes_alone() -> None:
    good = [a_record(milliseconds / 1000) for milliseconds in range(100, 0, -1)]
    slow_failures = [a_record(30.0, outcome=Outcome.TIMEOUT)] * 25
    assert bucket_result(a_window(*good, *slow_failures)) == BucketResult(
        name="1-100",
        requests=125,
        failures=25,
        actual_rps=10.0,
        p50_seconds=0.050,
        p95_seconds=0.095,
        p99_seconds=0.099,
    )


def test_percentiles_of_one_success_are_that_success() -> None:
    result = bucket_result(a_window(a_record(0.1234567)))
    assert (result.p50_seconds, result.p95_seconds, result.p99_seconds) == (0.123457,) * 3


@pytest.mark.parametrize("records", [[], [a_record(outcome=Outcome.HTTP_ERROR)]])
def test_percentiles_are_unset_without_a_success(records: list[Record]) -> None:
    result = bucket_result(a_window(*records))
    assert (result.requests, result.failures) == (len(records), len(records))
    assert (result.actual_rps, result.p50_seconds, result.p95_seconds, result.p99_seconds) == (
        0.0,
        None,
        None,
        None,
    )


def test_actual_rps_counts_the_time_until_the_last_success_ended() -> None:
    assert bucket_result(a_window(*[a_record(20.0)] * 16)).actual_rps == 0.8


def test_actual_rps_is_not_stretched_by_a_failure() -> None:
    records = [*[a_record()] * 99, a_record(30.0, start=59.0, outcome=Outcome.TIMEOUT)]
    assert bucket_result(a_window(*records)).actual_rps == 9.9


def test_overall_joins_the_raw_times_of_all_windows() -> None:
    fast, slow = a_window(*[a_record(0.1)] * 95), a_window(*[a_record(0.3)] * 5)
    assert overall([fast, slow]) == (5.0, 0.1)
    assert overall([fast, a_window(*[a_record(0.3)] * 6)]) == (5.05, 0.3)
    assert overall([]) == (0.0, None)


def test_max_length_is_the_longest_bucket_that_holds_rate_and_latency() -> None:
    results = [
        (Bucket(1, 100), a_result(10.0, 0.2)),
        (Bucket(101, 200), a_result(9.5, 1.0)),
        (Bucket(201, 300), a_result(9.49, 0.5)),
        (Bucket(301, 400), a_result(10.0, 1.001)),
        (Bucket(401, 500), a_result(0.0, None)),
    ]
    assert max_length_at_requested_rps(results, LoadTestSpec()) == 200
    assert max_length_at_requested_rps(results, LoadTestSpec(slo=Slo(rps=5.0))) == 300
    assert max_length_at_requested_rps(results, LoadTestSpec(slo=Slo(p95_seconds=0.1))) is None


def test_generator_is_saturated_by_its_own_lateness_or_cpu_only() -> None:
    slow_service = a_window(*[a_record(25.0)] * 10)
    late_once = a_window(*[a_record()] * 95, *[a_record(lag=0.2)] * 5)
    assert not generator_saturated([slow_service, late_once])
    assert generator_saturated([a_window(*[a_record()] * 94, *[a_record(lag=0.2)] * 6)])
    assert generator_saturated([slow_service, a_window(a_record(), cpu_cores=0.91)])


def test_failure_summary_counts_kinds_most_frequent_first() -> None:
    busy = Record("1-100", 0, 0, 1, Outcome.HTTP_ERROR, 503)
    late = Record("1-100", 0, 0, 30, Outcome.TIMEOUT, 0)
    assert failure_summary([late, busy, a_record(), busy]) == "2 x http error 503, 1 x timeout"
    assert failure_summary([a_record()]) == ""


def test_table_fits_a_terminal_with_the_largest_figures() -> None:
    bucket = BucketResult(
        name="1001-1100",
        requests=36_000_000,
        failures=9_999_999,
        actual_rps=9999.99,
        p50_seconds=29.9999,
        p95_seconds=None,
        p99_seconds=0.0512,
    )
    status = LoadTestStatus(
        fingerprint="f", run_id="1", state="Complete", users=16, requested_rps=10_000, buckets=[bucket]
    )
    head, row = format_table(status).splitlines()
    assert len(head) <= 80
    assert len(row) == len(head)
    assert row.split() == ["1001-1100", "36000000", "9999999", "10000.00", "9999.99", "29999.9", "-", "51.2"]
