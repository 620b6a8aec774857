"""The real load test in a separate process, against a service with known behaviour."""

from __future__ import annotations

import csv
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.loadtest.service import GOOD, STALLED, Run, Service, running_service
from toxicity_api.buckets import length_buckets
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.figures import MAX_LAG_SECONDS


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
        "arrivals": "uniform",
    }
    return LoadTestSpec.model_validate(base | fields)


def test_steady_service_is_measured_exactly(tmp_path: Path, service: Service) -> None:
    service.delay = lambda number: 0.05
    ended = Run(tmp_path, service.url, a_spec(warmup_seconds=1)).wait()
    assert ended.exit_code == 0, ended.log
    status = ended.status
    assert status["state"] == "Complete"
    results = [*status["buckets"], status["mixed"]]
    assert [(b["name"], b["requests"] + b["omitted"], b["failures"]) for b in results] == [
        ("1-50", 80, 0),
        ("51-100", 80, 0),
        ("mixed", 80, 0),
    ]
    assert (status["requests"], status["failures"]) == (sum(b["requests"] for b in results), 0)
    assert len(service.texts) == status["warmupRequests"] + status["requests"]
    for result in results:
        assert 0.05 <= result["p50Seconds"] <= result["p95Seconds"] <= result["p99Seconds"]
        assert result["p99Seconds"] <= result["p99CorrectedSeconds"]
        assert 0 < result["actualRps"] <= 40
    assert status["usersExhausted"] is any(b["omitted"] for b in results)
    assert [len(published["buckets"]) for published in ended.statuses] == [0, 1, 2, 2, 2]
    assert [published["state"] for published in ended.statuses] == ["Running"] * 4 + ["Complete"]
    assert (ended.result["stage"], ended.result["outcome"]) == ("loadtest", "succeeded")
    position = status["warmupRequests"]
    for bucket, result in zip(length_buckets(50, 100), status["buckets"], strict=True):
        texts = service.texts[position : position + result["requests"]]
        assert [text for text in texts if not bucket.holds(len(text))] == []
        position += len(texts)


def test_requests_keep_the_schedule_and_none_is_early(tmp_path: Path, service: Service) -> None:
    run = Run(tmp_path, service.url, a_spec(max_length=50))
    run.wait()
    with (run.folder / "requests.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["bucket"] == "1-50"]
    assert [float(row["scheduled_start"]) for row in rows] == [int(row["slot"]) / 40 for row in rows]
    assert [row for row in rows if float(row["start"]) < float(row["scheduled_start"])] == []
    arrivals = [service.spent[f"0123abcd-{row['window']}-{row['slot']}"][0] for row in rows]
    first = arrivals[0] - float(
        rows[0]["start"]
    )  # later than the start of the window by the first request's transfer time
    early = [
        row for row, arrival in zip(rows, arrivals, strict=True) if arrival - first < float(row["start"]) - 0.1
    ]
    assert early == []


def test_failures_are_counted_to_the_request_and_kept_out_of_the_latencies(
    tmp_path: Path, service: Service
) -> None:
    kinds = [(200, GOOD), (503, {}), (200, {"results": [{"score": 2}]}), (0, {}), (200, GOOD), (200, STALLED)]
    service.answer = lambda number: kinds[number % 6]
    service.delay = lambda number: 3.0 if number % 6 == 4 else 0.0
    ended = Run(tmp_path, service.url, a_spec(max_length=50, users=32), "--request-seconds", "1").wait()
    assert ended.exit_code == 0, ended.log
    (bucket,) = ended.status["buckets"]
    seen = Counter(number % 6 for number in range(len(service.texts)))
    assert min(seen[kind] for kind in range(6)) >= 5
    assert (ended.status["requests"], ended.status["failures"]) == (
        len(service.texts),
        len(service.texts) - seen[0],
    )
    assert bucket["requests"] + ended.status["mixed"]["requests"] == len(service.texts)
    assert set(ended.status["failureKinds"].split(", ")) == {
        f"{seen[1]} x http error 503",
        f"{seen[2]} x invalid answer 200",
        f"{seen[3]} x connection error",
        f"{seen[4]} x timeout",
        f"{seen[5]} x timeout 200",
    }
    assert bucket["p99Seconds"] < 1
    assert ended.status["state"] == "Complete"
    assert "maxLengthAtRequestedRps" not in ended.status


def test_slow_service_exhausts_the_users_and_does_not_saturate_the_generator(
    tmp_path: Path, service: Service
) -> None:
    service.delay = lambda number: 0.8
    ended = Run(tmp_path, service.url, a_spec(max_open_requests=4, max_length=50)).wait()
    (bucket,) = ended.status["buckets"]
    assert bucket["requests"] + ended.status["mixed"]["requests"] == len(service.texts)
    assert 4 <= bucket["requests"] <= 12, "each of four users at 0, 0.8, 1.6 s"
    assert (bucket["requests"] + bucket["omitted"], bucket["failures"]) == (80, 0)
    assert 0 < bucket["actualRps"] <= 5.0, "0.8 s each"
    assert ended.status["usersExhausted"] is ended.status["openLimitReached"] is True
    assert bucket["openRequestsPeak"] == 4
    assert bucket["omitted"] < bucket["delayed"] <= 76
    late = max(result["lagP95Seconds"] for result in (bucket, ended.status["mixed"])) > MAX_LAG_SECONDS
    assert ended.status["generatorSaturated"] is late, (
        "users who wait for the service are no fault of the generator"
    )
    assert bucket["p95CorrectedSeconds"] > 1.5 * bucket["p95Seconds"]
    assert ended.status["conclusions"]["basis"] == "throughput"


def test_token_is_sent_with_every_request(tmp_path: Path, service: Service) -> None:
    Run(tmp_path, service.url, a_spec(max_length=50, seconds_per_bucket=1), token="s3cret").wait()
    assert service.tokens == {"Bearer s3cret"}


def test_ceiling_of_the_generator_is_measured_before_the_service_is_asked(
    tmp_path: Path, service: Service
) -> None:
    spec = a_spec(max_length=50, seconds_per_bucket=1)
    ended = Run(tmp_path, service.url, spec, "--calibration-seconds", "0.5").wait()
    assert ended.status["generatorCeilingRps"] > 40
    assert "generatorCeilingRps" not in ended.statuses[0]
    assert ended.status["requests"] == len(service.texts) > 0


def test_search_finds_no_more_than_the_service_can(tmp_path: Path, service: Service) -> None:
    turn = threading.Lock()

    def one_at_a_time(number: int, arrival: float) -> None:
        with turn:
            time.sleep(0.05)  # at most 20 requests/s

    service.hold = one_at_a_time
    spec = a_spec(mode="search", users=64, requested_rps=20, max_length=50)
    ended = Run(tmp_path, service.url, spec).wait()
    assert ended.exit_code == 0, ended.log
    (bucket,) = ended.status["buckets"]
    assert (
        5 <= bucket["maxRpsWithinSlo"] <= 31
    )  # after two seconds at 30 requests/s the queue takes one second, which the SLO allows
    assert bucket["requestedRps"] == bucket["maxRpsWithinSlo"]
    assert bucket["p95CorrectedSeconds"] <= 1.0
    assert ended.status["requests"] == len(service.texts)
    assert ended.status["conclusions"]["basis"] == "search"


def test_run_fails_when_the_service_goes_away_for_too_long(tmp_path: Path, service: Service) -> None:
    service.answer = lambda number: (200, GOOD) if number < 20 else (0, {})
    ended = Run(tmp_path, service.url, a_spec(seconds_per_bucket=60, max_outage_seconds=1)).wait()
    assert (ended.exit_code, ended.result["reason"]) == (1, "ServiceUnavailable")
    assert ended.status["state"] == "Failed"
    assert ended.status["message"].endswith("during the run, longer than loadTest.maxOutageSeconds (1)")
    assert ended.status["requests"] == len(service.texts)
    assert ended.status["requests"] - ended.status["failures"] == 20
    assert ended.status["buckets"] == []


def test_run_fails_with_its_figures_when_no_request_succeeds(tmp_path: Path, service: Service) -> None:
    service.answer = lambda number: (500, {})
    more_users_than_starts = a_spec(users=32, requested_rps=10, seconds_per_bucket=1)
    ended = Run(tmp_path, service.url, more_users_than_starts).wait()
    assert ended.exit_code == 1
    assert (ended.status["state"], ended.status["message"]) == (
        "Failed",
        f"all requests failed: {len(service.texts)} x http error 500",
    )
    for bucket in ended.status["buckets"]:
        assert bucket["failures"] == bucket["requests"] == 10 - bucket["omitted"]
    assert ended.status["requests"] == ended.status["failures"] == len(service.texts)
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
    assert ended.status["message"] == "the load test was ended by SIGTERM"
    assert ended.result["reason"] == "Terminated"


def test_sigterm_while_waiting_for_the_service_leaves_a_failed_status(tmp_path: Path, service: Service) -> None:
    service.ready = False
    run = Run(tmp_path, service.url, a_spec(), "--ready-seconds", "60")
    assert run.process.stdout is not None
    first = json.loads(run.process.stdout.readline())
    assert service.got_asked.wait(60)
    run.process.send_signal(signal.SIGTERM)
    ended = run.wait()
    assert first["state"] == "Running"
    assert (ended.status["state"], ended.status["message"]) == ("Failed", "the load test was ended by SIGTERM")
    assert (ended.exit_code, ended.result["reason"]) == (1, "Terminated")


def test_unusable_texts_fail_at_once_and_for_good(tmp_path: Path, service: Service) -> None:
    ended = Run(tmp_path, service.url, a_spec(), csv="comment,toxic\nда,0\n").wait()
    assert ended.exit_code == 42
    assert (ended.status["state"], ended.result["reason"]) == ("Failed", "InvalidTexts")
    assert (
        ended.status["message"]
        == f"{tmp_path / 'test.csv'} has no column 'text'; its columns are ['comment', 'toxic']"
    )


@pytest.mark.parametrize(
    ("route", "texts", "path"),
    [
        ("classify", 3, "/v1/classify"),
        ("openai", 1, "/v1/moderations"),
        ("perspective", 1, "/v1alpha1/comments:analyze"),
    ],
)
def test_each_route_is_asked_in_its_own_shape(
    tmp_path: Path, service: Service, route: str, texts: int, path: str
) -> None:
    spec = a_spec(route=route, texts_per_request=texts, max_length=50, seconds_per_bucket=1)
    ended = Run(tmp_path, service.url, spec).wait()
    assert (ended.exit_code, ended.status["failures"]) == (0, 0), ended.log
    assert service.paths == {path}
    assert len(service.texts) == texts * ended.status["requests"] == texts * len(service.arrivals)
    assert (ended.status["route"], ended.status["textsPerRequest"]) == (route, texts)
