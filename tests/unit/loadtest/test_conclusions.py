from __future__ import annotations

import pytest

from support.loadtest.windows import SimulatedService, a_result
from toxicity_api.buckets import Bucket
from toxicity_api.loadtest_status import BucketResult, Conclusions, LoadTestStatus
from toxicity_api.spec import LoadTestSpec, Slo
from toxicity_loadtest.conclusions import (
    HEADROOM,
    Serving,
    capacity,
    conclude,
    max_length_at_requested_rps,
    mixed_capacity,
)
from toxicity_loadtest.records import WindowOrder


def searched(rps: float) -> BucketResult:
    return a_result(rps, 0.5, 0.5, asked=rps).model_copy(update={"max_rps_within_slo": rps})


def previous(per_replica: float, basis: str = "search", source: str | None = "mix") -> LoadTestStatus:
    fields = {"basis": basis, "source": source, "shareBeyondMaxLength": 0, "replicasNeeded": 1}
    found = Conclusions.model_validate({"mixedRpsPerReplica": per_replica} | fields)
    return LoadTestStatus(
        fingerprint="f", run_id="1", state="Complete", users=16, requested_rps=10.0, conclusions=found
    )


def concluded(
    rates: list[float], shares: list[float], mixed: BucketResult, replicas: int = 1, **others: object
) -> Conclusions:
    fields: dict[str, object] = {"mean": 0.4, "before": None, "ratio": None, "spec": LoadTestSpec()} | others
    found = conclude(
        [searched(rate) for rate in rates],
        shares,
        (mixed, fields["mean"]),  # type: ignore[arg-type]
        fields["spec"],  # type: ignore[arg-type]
        Serving(replicas, fields["ratio"]),  # type: ignore[arg-type]
        0.0123456,
        fields["before"],  # type: ignore[arg-type]
    )
    assert found is not None
    return found


def test_mixed_capacity_is_the_weighted_harmonic_mean() -> None:
    assert mixed_capacity([0.5, 0.5], [10.0, 2.5]) == pytest.approx(4.0)
    assert mixed_capacity([1.0, 0.0], [10.0, 0.0]) == 10.0
    assert mixed_capacity([0.5, 0.5], [10.0, 0.0]) is None
    assert mixed_capacity([0.5, 0.5], [0.5, 0.25]) == pytest.approx(1 / 3), "also below one request per second"
    assert mixed_capacity([], []) is None


def test_shares_of_other_buckets_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        mixed_capacity([0.5, 0.5], [10.0])
    with pytest.raises(ValueError, match="shorter"):
        concluded([10.0, 5.0], [1.0], searched(7.0))


def test_mixed_capacity_is_what_a_queue_carries_of_the_mix() -> None:
    """A single server takes 0.02 s for short and 0.2 s for long texts, with three short texts per long text."""
    predicted = mixed_capacity([0.75, 0.25], [1 / 0.02, 1 / 0.2])
    assert predicted is not None
    turn = iter(range(10**6))
    service = SimulatedService(lambda name: 0.2 if next(turn) % 4 == 3 else 0.02, users=64)
    window = service.offer(WindowOrder(number=1, name="mixed", rps=3 * predicted, seconds=200.0))
    carried = len(window.records) / max(record.end for record in window.records)
    assert carried == pytest.approx(predicted, rel=0.01)


def test_conclusions_are_per_replica_and_from_the_mix() -> None:
    found = concluded([20.0, 5.0], [0.5, 0.5], searched(7.0), replicas=2, ratio=1.5)
    assert (found.mixed_rps_per_replica, found.basis, found.source) == (3.5, "search", "mix")
    assert (found.buckets_rps_per_replica, found.buckets_basis) == (4.0, "search")
    assert found.replicas_needed == 3, "ten requests/s at 3.5 per replica"
    assert found.in_flight_target == round(HEADROOM * 3.5 * 0.4, 2), "Little's law"
    assert found.cpu_percent_target == 120, "the autoscaler counts in per cent of the request"
    assert found.share_beyond_max_length == 0.0123
    assert (found.predicted_rps, found.measured_rps, found.prediction_error) == (None, None, None)


def test_figures_are_rounded_for_display() -> None:
    found = concluded([8.0], [1.0], searched(7.0), replicas=3, mean=0.78, before=previous(2.55555))
    assert (found.mixed_rps_per_replica, found.buckets_rps_per_replica) == (2.3333, 2.6667)
    assert found.in_flight_target == 1.46
    assert (found.predicted_rps, found.prediction_error) == (7.6667, -0.087)
    assert concluded([8.0], [1.0], searched(7.1), before=previous(9.3)).prediction_error == -0.2366


def test_mix_of_less_than_one_request_per_second_is_a_measurement() -> None:
    found = concluded([0.75], [1.0], searched(0.5), mean=4.0, before=previous(0.8))
    assert (found.mixed_rps_per_replica, found.source, found.in_flight_target) == (0.5, "mix", 1.6)
    assert (found.replicas_needed, found.measured_rps, found.prediction_error) == (20, 0.5, -0.375)


def test_service_without_ready_replicas_at_the_end_counts_as_one() -> None:
    assert concluded([8.0], [1.0], searched(7.0), replicas=0).mixed_rps_per_replica == 7.0


def test_target_of_requests_in_flight_is_at_least_one() -> None:
    assert concluded([9.0], [1.0], searched(9.0), mean=0.05).in_flight_target == 1.0
    assert concluded([9.0], [1.0], searched(9.0), mean=None).in_flight_target is None


def test_slo_rps_decides_how_many_replicas_are_needed() -> None:
    spec = LoadTestSpec(slo=Slo(rps=8.0))
    assert concluded([4.0], [1.0], searched(4.0), spec=spec).replicas_needed == 2


def test_replicas_that_carried_the_mix_within_the_objective_are_enough() -> None:
    within = concluded([9.0], [1.0], a_result(9.99, 0.3, 0.3))
    assert (within.mixed_rps_per_replica, within.basis, within.replicas_needed) == (10.0, "lowerBound", 1)
    late = concluded([9.0], [1.0], a_result(9.5, 3.0, 3.0))
    assert (late.mixed_rps_per_replica, late.basis, late.replicas_needed) == (9.5, "throughput", 2)


def test_bucket_that_carried_nothing_takes_away_only_its_own_figure() -> None:
    found = concluded([4.0, 0.0], [0.9, 0.1], searched(3.0))
    assert (found.mixed_rps_per_replica, found.source, found.replicas_needed) == (3.0, "mix", 4)
    assert (found.buckets_rps_per_replica, found.buckets_basis) == (None, None)
    without_texts = concluded([4.0, 0.0], [1.0, 0.0], searched(3.0))
    assert without_texts.buckets_rps_per_replica == 4.0


def test_buckets_are_used_when_the_mix_carried_nothing() -> None:
    found = concluded([4.0], [1.0], searched(0.0))
    assert (found.mixed_rps_per_replica, found.source, found.in_flight_target) == (4.0, "buckets", None)
    compared = concluded([4.0], [1.0], searched(0.0), before=previous(5.0))
    assert (compared.predicted_rps, compared.measured_rps, compared.prediction_error) == (5.0, None, None)
    args = ((searched(0.0), None), LoadTestSpec(), Serving(1), 0.0, None)
    assert conclude([searched(0.0)], [1.0], *args) is None


def test_one_slow_bucket_does_not_hide_that_the_others_are_lower_bounds() -> None:
    spec, within, slow = LoadTestSpec(), a_result(9.9, 0.5), a_result(6.0, 2.5)
    found = conclude([within, slow, within], [0.5, 0.4, 0.1], (slow, None), spec, Serving(1), 0.0, None)
    assert found is not None
    assert (found.basis, found.buckets_basis) == ("throughput", "lowerBound")
    all_slow = conclude([slow], [1.0], (slow, None), spec, Serving(1), 0.0, None)
    assert all_slow is not None and all_slow.buckets_basis == "throughput"
    unused = conclude([searched(9.0), within], [1.0, 0.0], (slow, None), spec, Serving(1), 0.0, None)
    assert unused is not None and unused.buckets_basis == "search"


def test_prediction_of_the_run_before_is_compared_with_what_was_carried() -> None:
    found = concluded([20.0], [1.0], searched(9.0), replicas=3, before=previous(3.2))
    assert (found.predicted_rps, found.measured_rps) == (9.6, 9.0)
    assert found.prediction_error == round(9.0 / 9.6 - 1, 4)
    by_buckets = concluded([20.0], [1.0], searched(9.0), replicas=3, before=previous(3.2, source="buckets"))
    assert (by_buckets.predicted_rps, by_buckets.measured_rps) == (9.6, 9.0)


def test_lower_bound_predicts_nothing_and_measures_nothing() -> None:
    found = concluded([20.0], [1.0], searched(9.0), before=previous(3.2, "lowerBound"))
    assert (found.predicted_rps, found.measured_rps, found.prediction_error) == (None, None, None)
    capped = concluded([20.0], [1.0], a_result(9.9, 0.5, 0.5), before=previous(9.0))
    assert (capped.predicted_rps, capped.measured_rps, capped.prediction_error) == (9.0, None, None)


def test_throughput_beyond_the_objective_is_compared_only_with_the_same() -> None:
    beyond = a_result(6.0, 2.5, 9.5)
    other = concluded([20.0], [1.0], beyond, before=previous(8.0))
    assert (other.predicted_rps, other.measured_rps, other.prediction_error) == (8.0, None, None)
    alike = concluded([20.0], [1.0], beyond, before=previous(8.0, "throughput", "mix"))
    assert (alike.measured_rps, alike.prediction_error) == (6.0, -0.25)
    from_capped_buckets = concluded([20.0], [1.0], beyond, before=previous(8.0, "throughput", None))
    assert from_capped_buckets.predicted_rps is None


def test_capacity_says_what_the_figure_is() -> None:
    spec = LoadTestSpec()
    assert capacity(searched(7.0), spec) == (7.0, "search")
    assert capacity(a_result(9.9, 0.5, 0.5), spec) == (10.0, "lowerBound")
    assert capacity(a_result(6.0, 2.5, 9.0), spec) == (6.0, "throughput")
    assert capacity(a_result(7.9, 0.5, 0.5, asked=8.0), spec) == (8.0, "lowerBound")
    of_earlier_version = a_result(9.9, 0.5, 0.5).model_copy(update={"requested_rps": None})
    assert capacity(of_earlier_version, spec) == (10.0, "lowerBound")


def test_max_length_is_the_longest_bucket_that_holds_rate_and_latency() -> None:
    results = [
        (Bucket(1, 100), a_result(10.0, 0.2)),
        (Bucket(101, 200), a_result(9.5, 1.0)),
        (Bucket(201, 300), a_result(9.49, 0.5)),
        (Bucket(301, 400), a_result(10.0, 0.2, 1.001)),
        (Bucket(401, 500), a_result(0.0, None)),
    ]
    assert max_length_at_requested_rps(results, LoadTestSpec()) == 200
    assert max_length_at_requested_rps(results, LoadTestSpec(slo=Slo(rps=5.0))) == 300
    assert max_length_at_requested_rps(results, LoadTestSpec(slo=Slo(p95_seconds=0.1))) is None
    assert max_length_at_requested_rps([(Bucket(1, 100), searched(9.5))], LoadTestSpec()) == 100
    assert max_length_at_requested_rps([(Bucket(1, 100), searched(9.4))], LoadTestSpec()) is None
