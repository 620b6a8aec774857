from __future__ import annotations

from collections import Counter

import pytest

from support.loadtest.windows import SimulatedService
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.measurement import CEILING_SHARE, WindowRunner
from toxicity_loadtest.records import MIXED
from toxicity_loadtest.search import (
    COARSE,
    FINE,
    MAX_RATES,
    Trial,
    highest_passed,
    lowest_failed,
    next_rps,
)


def run_search(capacity: float, start: float, most: float = 10_000.0) -> list[Trial]:
    trials: list[Trial] = []
    while (rps := next_rps(trials, start, most)) is not None:
        trials.append(Trial(rps, rps <= capacity))
    return trials


@pytest.mark.parametrize("capacity", [3.3, 9.9, 10.0, 10.1, 17.0, 39.0, 80.0])
def test_search_ends_within_its_resolution_of_the_capacity(capacity: float) -> None:
    trials = run_search(capacity, 10.0)
    best, failed = highest_passed(trials), lowest_failed(trials)
    assert best is not None and failed is not None
    assert best <= capacity < failed
    assert failed / best <= (1 + COARSE.resolution) * 1.001
    assert [trial.rps for trial in trials].count(failed) == 2, "the failure that ends the search was repeated"
    assert len(trials) <= MAX_RATES + 1


def test_search_is_bounded_when_nothing_holds_or_everything_does() -> None:
    assert [trial.rps for trial in run_search(0.0, 1.0)] == [1.0, 0.5, 0.25, 0.125, 0.1, 0.1]
    assert len(run_search(0.0, 1000.0)) == MAX_RATES + 1
    assert [trial.rps for trial in run_search(1e9, 10.0, most=50.0)] == [10.0, 20.0, 40.0, 50.0]
    assert [trial.rps for trial in run_search(1e9, 80.0, most=50.0)] == [50.0]


def test_luck_above_a_rate_that_failed_does_not_count() -> None:
    trials = [Trial(10.0, True), Trial(20.0, False), Trial(40.0, True)]
    assert (highest_passed(trials), lowest_failed(trials)) == (10.0, 20.0)
    assert next_rps(trials, 10.0, 100.0) == 14.14


@pytest.mark.parametrize("unlucky", [5.0, 10.0, 20.0])
def test_single_failure_by_chance_does_not_change_the_result(unlucky: float) -> None:
    trials: list[Trial] = []
    while (rps := next_rps(trials, 5.0, 10_000.0)) is not None:
        is_first = rps not in [trial.rps for trial in trials]
        trials.append(Trial(rps, rps <= 33.0 and not (rps == unlucky and is_first)))
    best, failed = highest_passed(trials), lowest_failed(trials)
    assert best is not None and failed is not None
    assert best <= 33.0 < failed <= best * (1 + COARSE.resolution) * 1.001
    assert max(Counter(trial.rps for trial in trials).values()) == 2


def test_rate_that_fails_twice_has_failed() -> None:
    trials = [Trial(10.0, True), Trial(11.0, False)]
    assert next_rps(trials, 10.0, 100.0) == 11.0
    assert next_rps([*trials, Trial(11.0, False)], 10.0, 100.0) is None
    assert lowest_failed([*trials, Trial(11.0, True)]) is None


def a_spec(**fields: object) -> LoadTestSpec:
    base = {
        "mode": "search",
        "secondsPerBucket": 30,
        "slo": {"p95Seconds": 0.5},
        "requestedRps": 10,
        "arrivals": "uniform",
    }
    return LoadTestSpec.model_validate(base | fields)


def test_search_finds_the_rate_a_queue_carries_in_time() -> None:
    service = SimulatedService(lambda name: 0.05)  # above 20 requests/s the queue grows
    runner = WindowRunner(service, a_spec(), ceiling=None)
    found = runner.measure("1-100", 10.0)
    assert found.result.max_rps_within_slo == found.result.requested_rps == found.window.order.rps
    assert 20 / (1 + COARSE.resolution) <= found.window.order.rps <= 20.5
    assert [window.order for window in runner.windows] == service.orders
    assert [order.number for order in service.orders] == list(range(1, len(service.orders) + 1))
    assert not found.users_exhausted and not found.generator_saturated


@pytest.mark.parametrize("seconds", [5, 30])
def test_search_accepts_no_rate_at_which_the_backlog_grows(seconds: int) -> None:
    """Ten requests/s are the capacity. At 11.9/s the latencies of a window of five seconds stay below the SLO."""
    service = SimulatedService(lambda name: 0.1, users=512)
    spec = a_spec(secondsPerBucket=seconds, slo={"p95Seconds": 1.0})
    result = WindowRunner(service, spec, ceiling=None).measure("1-100", 10.0).result
    assert result.max_rps_within_slo == 10.0
    assert result.lowest_rps_beyond_slo == 10.9
    assert result.backlog_grows is False


def test_search_of_poisson_arrivals_stays_below_the_capacity() -> None:
    service = SimulatedService(lambda name: 0.02, users=512)
    spec = a_spec(arrivals="poisson", slo={"p95Seconds": 0.2})
    found = WindowRunner(service, spec, ceiling=None, seed=7).measure("1-100", 10.0)
    assert found.result.max_rps_within_slo is not None
    assert 0.75 * 50 <= found.result.max_rps_within_slo <= 50
    assert {order.arrivals for order in service.orders} == {"poisson"}
    assert {order.seed for order in service.orders} == {7}


def test_rate_that_is_expected_is_searched_in_small_steps() -> None:
    service = SimulatedService(lambda name: 0.1, users=512)
    result = WindowRunner(service, a_spec(), ceiling=None).measure(MIXED, 9.0, FINE).result
    assert result.max_rps_within_slo and result.lowest_rps_beyond_slo
    assert result.lowest_rps_beyond_slo / result.max_rps_within_slo <= 1 + FINE.resolution
    assert max(order.rps for order in service.orders) == 9.0 * FINE.factor


def test_search_reports_too_few_users() -> None:
    """Every answer takes 0.4 s at any load, which is within the SLO. Four users reach ten requests/s."""
    service = SimulatedService(lambda name: 0.4, users=4, servers=4)
    found = WindowRunner(service, a_spec(), ceiling=None).measure("1-100", 10.0)
    assert found.result.max_rps_within_slo is not None
    assert 10 / (1 + COARSE.resolution) <= found.result.max_rps_within_slo <= 10.6
    assert found.users_exhausted and found.open_limit_reached


def test_search_reports_the_lowest_rate_when_none_passes() -> None:
    found = WindowRunner(SimulatedService(lambda name: 2.0), a_spec(), ceiling=None).measure("1-100", 4.0)
    assert found.result.max_rps_within_slo == 0.0
    assert found.result.requested_rps == 0.1


def test_search_stops_at_the_generators_maximum_rate_and_reports_it() -> None:
    service = SimulatedService(lambda name: 0.0)
    found = WindowRunner(service, a_spec(), ceiling=100.0).measure("1-100", 10.0)
    assert found.result.max_rps_within_slo == max(order.rps for order in service.orders) == CEILING_SHARE * 100
    assert found.generator_saturated


def test_search_that_runs_out_of_trials_does_not_blame_the_generator() -> None:
    found = WindowRunner(SimulatedService(lambda name: 0.0), a_spec(), ceiling=None).measure("1-100", 1.0)
    assert found.result.max_rps_within_slo == 2.0 ** (MAX_RATES - 1)
    assert not found.generator_saturated


def test_fixed_mode_measures_once_at_the_asked_rate() -> None:
    service = SimulatedService(lambda name: 0.01)
    found = WindowRunner(service, a_spec(mode="fixed"), ceiling=None).measure("1-100", 10.0)
    assert [(order.name, order.rps, order.seconds) for order in service.orders] == [("1-100", 10.0, 30.0)]
    assert (found.result.requests, found.result.max_rps_within_slo) == (300, None)
