from __future__ import annotations

from toxicity_api.loadtest_status import BucketResult, Conclusions, LoadTestStatus
from toxicity_loadtest.report import format_facts, format_table


def a_status(**fields: object) -> LoadTestStatus:
    base = {"fingerprint": "f", "run_id": "1", "state": "Complete", "users": 16, "requested_rps": 10_000.0}
    return LoadTestStatus.model_validate(base | fields)


def test_table_fits_a_terminal_with_the_largest_figures() -> None:
    bucket = BucketResult(
        name="1001-1100",
        requests=36_000_000,
        failures=999_999,
        actual_rps=9999.99,
        p50_seconds=29.9999,
        p95_seconds=None,
        p99_seconds=0.0512,
        p95_corrected_seconds=45.0,
    )
    mixed = bucket.model_copy(update={"name": "mixed", "requested_rps": 7.0})
    head, row, last = format_table(a_status(buckets=[bucket], mixed=mixed)).splitlines()
    assert len(head) <= 80
    assert (len(row), len(last)) == (len(head), len(head))
    figures = ["36000000", "999999", "10000.00", "9999.99", "29999.9", "-", "51.2", "45000.0"]
    assert row.split() == ["1001-1100", *figures]
    assert last.split()[:4] == ["mixed", "36000000", "999999", "7.00"]


def test_facts_name_the_limit_and_the_conclusions() -> None:
    found = Conclusions(
        mixed_rps_per_replica=3.456,
        basis="search",
        share_beyond_max_length=0.0,
        replicas_needed=3,
        in_flight_target=2.5,
        prediction_error=-0.031,
    )
    status = a_status(
        generator_ceiling_rps=812.4,
        users=64,
        arrivals="poisson",
        open_limit_reached=True,
        generator_saturated=False,
        conclusions=found,
    )
    assert format_facts(status).splitlines() == [
        "failures: none",
        "generator: poisson arrivals, ceiling 812 requests/s, saturated: no, limit of 64 open requests reached: yes",
        "mixed traffic per replica: 3.46 requests/s (search of the buckets), replicas needed: 3",
        "suggested autoscaler target: 2.5 requests in flight per replica",
        "error of the previous run's prediction: -3.1 %",
    ]
    assert format_facts(a_status(failure_kinds="2 x timeout")).splitlines() == [
        "failures: 2 x timeout",
        "generator: uniform arrivals, ceiling unknown, saturated: unknown, limit of 16 open requests reached: unknown",
    ]
