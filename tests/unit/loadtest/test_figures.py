from __future__ import annotations

import pandas as pd
import pytest

from support.loadtest.windows import a_record, a_result, a_window
from toxicity_api.loadtest_status import BucketResult
from toxicity_api.spec import Slo
from toxicity_loadtest.figures import (
    bucket_result,
    failure_summary,
    frames,
    generator_saturated,
    meets_slo,
    overall,
    users_exhausted,
)
from toxicity_loadtest.records import Outcome, Record, Window, WindowOrder, join


def test_percentiles_are_observed_values_of_successes_alone() -> None:
    good = [a_record(milliseconds / 1000) for milliseconds in range(100, 0, -1)]
    slow_failures = [a_record(30.0, outcome=Outcome.TIMEOUT)] * 25
    result = bucket_result(a_window(*good, *slow_failures))
    interval = {"p95_corrected_low_seconds": None, "p95_corrected_high_seconds": None}
    assert result.model_copy(update=interval) == BucketResult(
        name="1-100",
        requests=125,
        failures=25,
        requested_rps=10.0,
        actual_rps=10.0,
        omitted=0,
        p50_seconds=0.050,
        p95_seconds=0.095,
        p99_seconds=0.099,
        p50_corrected_seconds=0.050,
        p95_corrected_seconds=0.095,
        p99_corrected_seconds=0.099,
        backlog_grows=False,
        delayed=0,
        open_requests_peak=0,
        lag_p95_seconds=0.0,
        lag_max_seconds=0.0,
    )


def test_corrected_latency_counts_from_the_schedule_and_includes_what_was_never_sent() -> None:
    sent = [a_record(0.1, start=1.0 + i, waited=0.5) for i in range(8)]
    result = bucket_result(a_window(*sent, omitted=[7.0, 9.5]))
    assert (result.p50_seconds, result.p99_seconds) == (0.1, 0.1)
    assert (result.p50_corrected_seconds, result.p99_corrected_seconds) == (0.6, 3.0)
    assert result.omitted == 2


def test_percentiles_of_one_success_are_that_success() -> None:
    result = bucket_result(a_window(a_record(0.1234567)))
    assert (result.p50_seconds, result.p95_seconds, result.p99_seconds) == (0.123457,) * 3


@pytest.mark.parametrize("records", [[], [a_record(outcome=Outcome.HTTP_ERROR)]])
def test_percentiles_are_unset_without_a_success(records: list[Record]) -> None:
    result = bucket_result(a_window(*records))
    assert (result.requests, result.failures, result.actual_rps) == (len(records), len(records), 0.0)
    assert (result.p50_seconds, result.p95_seconds, result.p99_corrected_seconds) == (None, None, None)


def test_lag_is_the_generators_own_lateness_without_the_wait_for_a_user() -> None:
    records = [a_record(start=5.0, waited=3.0, lag=0.01)] * 95 + [a_record(start=5.0, waited=3.0, lag=0.2)] * 5
    result = bucket_result(a_window(*records))
    assert (result.lag_p95_seconds, result.lag_max_seconds) == (0.01, 0.2)


def test_actual_rps_counts_the_time_until_the_last_success_ended() -> None:
    assert bucket_result(a_window(*[a_record(20.0)] * 16)).actual_rps == 0.8


def test_actual_rps_is_not_stretched_by_a_failure() -> None:
    records = [*[a_record()] * 99, a_record(30.0, start=9.0, outcome=Outcome.TIMEOUT)]
    assert bucket_result(a_window(*records)).actual_rps == 9.9


def test_overall_joins_the_raw_times_of_all_windows() -> None:
    fast, slow = a_window(*[a_record(0.1)] * 95), a_window(*[a_record(0.3, start=1.0, waited=0.7)] * 5)
    assert overall([fast, slow]) == (5.0, 0.1, 0.1)
    assert overall([fast, a_window(*[a_record(0.3, start=1.0, waited=0.7)] * 6)]) == (5.05, 0.3, 1.0)
    assert overall([]) == (0.0, None, None)


def test_rate_holds_when_it_is_reached_in_time_with_few_failures() -> None:
    slo = Slo(p95_seconds=1.0)
    assert meets_slo(a_result(9.5, 0.2, 1.0, failures=1), slo, 10.0)
    assert not meets_slo(a_result(9.49, 0.2, 0.2), slo, 10.0)
    assert not meets_slo(a_result(10.0, 0.2, 1.001), slo, 10.0)
    assert not meets_slo(a_result(10.0, 0.2, 0.2, failures=2), slo, 10.0)
    assert not meets_slo(a_result(0.0, None), slo, 10.0)


def test_rate_is_reached_by_the_share_of_requests_due_and_not_by_when_the_last_one_ended() -> None:
    slow_but_in_time = bucket_result(a_window(*[a_record(0.9, start=i / 10) for i in range(20)], seconds=2.0))
    assert slow_but_in_time.actual_rps < 0.95 * 10
    assert meets_slo(slow_but_in_time, Slo(p95_seconds=1.0), 10.0)
    half = bucket_result(a_window(*[a_record(0.9)] * 90, omitted=[9.5] * 10))
    assert not meets_slo(half, Slo(p95_seconds=1.0), 10.0)


def test_figures_of_before_without_a_corrected_p95_are_judged_by_the_one_they_have() -> None:
    assert meets_slo(a_result(10.0, 1.0), Slo(p95_seconds=1.0), 10.0)
    assert not meets_slo(a_result(10.0, 1.1), Slo(p95_seconds=1.0), 10.0)


def test_generator_is_saturated_by_its_own_lateness_or_cpu_only() -> None:
    slow_service = a_window(*[a_record(25.0, start=30.0, waited=29.0)] * 10, omitted=[5.0])
    late_once = a_window(*[a_record()] * 95, *[a_record(lag=0.2)] * 5)
    late_often = a_window(*[a_record()] * 94, *[a_record(lag=0.2)] * 6)
    assert not generator_saturated([slow_service, late_once])
    assert generator_saturated([late_often])
    assert generator_saturated([late_often, *[a_window(*[a_record()] * 100)] * 10]), "one bad window is enough"
    assert generator_saturated([slow_service, a_window(a_record(), cpu_share=0.91)])


def test_users_are_exhausted_when_a_slot_was_left_over() -> None:
    assert users_exhausted([a_window(a_record()), a_window(a_record(25.0), omitted=[9.0])])
    assert not users_exhausted([a_window(a_record(1.0, start=5.0, waited=4.0))])


def test_failure_summary_counts_kinds_most_frequent_first() -> None:
    busy = a_record(outcome=Outcome.HTTP_ERROR, status_code=503)
    late = a_record(outcome=Outcome.TIMEOUT)
    assert failure_summary([a_window(late, busy), a_window(a_record(), busy)]) == "2 x http error 503, 1 x timeout"
    assert failure_summary([a_window(a_record())]) == ""
    assert failure_summary([]) == ""


def test_frame_has_a_row_per_request_of_all_windows() -> None:
    windows = [a_window(a_record(), a_record()), a_window(), a_window(a_record(), name="mixed")]
    table = pd.concat(list(frames(windows)))
    assert list(table["bucket"]) == ["1-100", "1-100", "mixed"]
    assert list(table["outcome"]) == ["ok"] * 3


def test_parts_of_two_workers_make_one_window() -> None:
    order = WindowOrder(number=3, name="1-100", rps=4.0, seconds=1.0)
    parts = [
        Window(order, [Record(slot, slot / 4, slot / 4, slot / 4, 1.0, Outcome.OK, 200)], [0.5], share, began)
        for slot, share, began in ((1, 0.2, "2030-01-01T00:00:01Z"), (0, 0.7, "2030-01-01T00:00:00Z"))
    ]
    whole = join(order, parts, [record for part in reversed(parts) for record in part.records])
    assert [record.slot for record in whole.records] == [0, 1]
    assert (whole.omitted, whole.cpu_share, whole.began_at) == ([0.5, 0.5], 0.7, "2030-01-01T00:00:00Z")
