"""The real load test in a process of its own against a service of known behaviour."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from toxicity_api.buckets import length_buckets
from toxicity_api.spec import LoadTestSpec
from unit.loadtest.service import GOOD, STALLED, Run, Service, running_service


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as service:
        yield service


def a_spec(**fields: object) -> LoadTestSpec:
    base: dict[str, object] = {
        "users": 8,
        "requested_rps": 40,
        "bucket_step": 50,
        "max_length": 100,
        "seconds_per_bucket": 2,
        "warmup_seconds": 0,
    }
    return LoadTestSpec.model_validate(base | fields)


def test_steady_service_is_measured_exactly(tmp_path: Path, service: Service) -> None:
    service.delay = lambda number: 0.05
    ended = Run(tmp_path, service.url, a_spec(warmup_seconds=1)).wait()
    assert ended.exit_code == 0, ended.log
    status = ended.status
    assert (status["state"], status["warmupRequests"]) == ("Complete", 40)
    assert [(b["name"], b["requests"], b["failures"]) for b in status["buckets"]] == [
        ("1-50", 80, 0),
        ("51-100", 80, 0),
    ]
    assert len(service.texts) == 200
    for bucket in status["buckets"]:
        assert 0.05 <= bucket["p50Seconds"] < 0.065
        assert bucket["p50Seconds"] <= bucket["p95Seconds"] <= bucket["p99Seconds"]
        assert bucket["p95Seconds"] < 0.1
        assert 38 <= bucket["actualRps"] <= 40
    assert status["maxLengthAtRequestedRps"] == 100
    assert status["generatorSaturated"] is False
    assert [len(published["buckets"]) for published in ended.statuses] == [0, 1, 2, 2]
    assert [published["state"] for published in ended.statuses] == ["Running"] * 3 + ["Complete"]
    assert (ended.result["stage"], ended.result["outcome"]) == ("loadtest", "succeeded")
    assert_texts_and_pace(service.texts[40:], service.arrivals[40:])


def assert_texts_and_pace(texts: list[str], arrivals: list[float]) -> None:
    """Each bucket's 80 requests carry texts of its length and arrive one by one, not in bursts of users."""
    buckets = length_buckets(50, 100)
    assert [buckets[i // 80].holds(len(text)) for i, text in enumerate(texts)] == [True] * 160
    gaps = sorted(later - earlier for earlier, later in pairwise(arrivals[:80]))
    assert 0.02 < gaps[40] < 0.03
    assert gaps[70] < 0.05


def test_failures_are_counted_to_the_request_and_kept_out_of_the_latencies(
    tmp_path: Path, service: Service
) -> None:
    kinds = [(200, GOOD), (503, {}), (200, {"results": [{"score": 2}]}), (0, {}), (200, GOOD), (200, STALLED)]
    service.answer = lambda number: kinds[number % 6]
    service.delay = lambda number: 1.0 if number % 6 == 4 else 0.0
    ended = Run(tmp_path, service.url, a_spec(max_length=50), "--request-seconds", "0.3").wait()
    assert ended.exit_code == 0, ended.log
    (bucket,) = ended.status["buckets"]
    seen = Counter(number % 6 for number in range(len(service.texts)))
    assert min(seen[kind] for kind in range(6)) >= 8
    assert (bucket["requests"], bucket["failures"]) == (len(service.texts), len(service.texts) - seen[0])
    (summary,) = (line for line in ended.log.splitlines() if line.startswith("failures: "))
    assert set(summary.removeprefix("failures: ").split(", ")) == {
        f"{seen[1]} x http error 503",
        f"{seen[2]} x invalid answer 200",
        f"{seen[3]} x connection error",
        f"{seen[4]} x timeout",
        f"{seen[5]} x timeout 200",
    }
    assert bucket["p99Seconds"] < 0.3
    assert ended.status["state"] == "Complete"
    assert "maxLengthAtRequestedRps" not in ended.status


def test_slow_service_shows_what_it_carried_and_no_request_is_lost(tmp_path: Path, service: Service) -> None:
    service.delay = lambda number: 0.8
    ended = Run(tmp_path, service.url, a_spec(users=4, max_length=50)).wait()
    (bucket,) = ended.status["buckets"]
    assert (bucket["requests"], bucket["failures"]) == (len(service.texts), 0)
    assert bucket["requests"] == 12  # four users, each at 0, 0.8 and 1.6 s
    assert 4.4 < bucket["actualRps"] <= 5.0  # four users, 0.8 s each: 5 RPS at most
    assert ended.status["generatorSaturated"] is False


def test_run_fails_with_its_figures_when_no_request_succeeds(tmp_path: Path, service: Service) -> None:
    service.answer = lambda number: (500, {})
    more_users_than_starts = a_spec(users=32, requested_rps=10, seconds_per_bucket=1)
    ended = Run(tmp_path, service.url, more_users_than_starts).wait()
    assert ended.exit_code == 1
    assert (ended.status["state"], ended.status["message"]) == (
        "Failed",
        "not one request succeeded: 20 x http error 500",
    )
    assert [(b["requests"], b["failures"]) for b in ended.status["buckets"]] == [(10, 10), (10, 10)]
    assert len(service.texts) == 20
    assert (ended.result["outcome"], ended.result["reason"]) == ("failed", "NoSuccess")


def test_run_fails_without_a_request_when_the_service_is_not_ready(tmp_path: Path, service: Service) -> None:
    service.ready = False
    ended = Run(tmp_path, service.url, a_spec(), "--ready-seconds", "0.2").wait()
    assert ended.exit_code == 1
    assert ended.status["state"] == "Failed"
    why = 'not ready within 0.2 s: HTTP Error 503: Service Unavailable, {"state": "Loading"}'
    assert ended.status["message"] == f"{service.url}/readyz was {why}"
    assert ended.result["reason"] == "ServiceNotReady"
    assert service.texts == []


def test_sigterm_leaves_a_failed_status(tmp_path: Path, service: Service) -> None:
    service.delay = lambda number: 5.0
    run = Run(tmp_path, service.url, a_spec(seconds_per_bucket=60))
    begun = service.got_some.wait(60)
    run.process.send_signal(signal.SIGTERM)
    ended = run.wait()
    assert begun, ended.log
    assert ended.exit_code == 1
    assert Counter(status["state"] for status in ended.statuses) == {"Running": 1, "Failed": 1}
    assert ended.status["message"] == "ended by SIGTERM"
    assert ended.result["reason"] == "Terminated"


def test_unusable_texts_fail_at_once_and_for_good(tmp_path: Path, service: Service) -> None:
    ended = Run(tmp_path, service.url, a_spec(), csv="comment,toxic\nда,0\n").wait()
    assert ended.exit_code == 42
    assert (ended.status["state"], ended.result["reason"]) == ("Failed", "InvalidTexts")
    assert (
        ended.status["message"]
        == f"{tmp_path / 'test.csv'} has no column 'text'; its columns are ['comment', 'toxic']"
    )
