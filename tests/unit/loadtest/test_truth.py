"""Compare the load test's figures with the service's own records, request by request.

Both processes read the machine's monotonic clock. The two records of a request give its transfer time, which the
comparison allows for, so it is valid on a loaded machine too.
"""

from __future__ import annotations

import csv
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.loadtest.service import GOOD, Replicas, Run, Service, running_service
from toxicity_api.spec import LoadTestSpec

RPS, SECONDS = 40.0, 2
SHARES = {"p50Seconds": 0.50, "p95Seconds": 0.95, "p99Seconds": 0.99}
Row = dict[str, str]


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as service:
        yield service


def a_spec(**fields: object) -> LoadTestSpec:
    base: dict[str, object] = {
        "users": 16, "requested_rps": RPS, "bucket_step": 50, "max_length": 50, "seconds_per_bucket": SECONDS,
        "warmup_seconds": 0,
        "arrivals": "uniform",
    }  # fmt: skip
    return LoadTestSpec.model_validate(base | fields)


def nearest_rank(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def rows_of(run: Run, bucket: str = "1-50") -> list[Row]:
    with (run.folder / "requests.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["bucket"] == bucket]


def request_id(row: Row) -> str:
    return f"0123abcd-{row['window']}-{row['slot']}"


def measure(folder: Path, service: Service, **fields: object) -> tuple[dict[str, Any], list[Row]]:
    """Return the bucket's figures and the rows of its requests."""
    run = Run(folder, service.url, a_spec(**fields))
    ended = run.wait()
    assert ended.exit_code == 0, ended.log
    (bucket,) = ended.status["buckets"]
    return bucket, rows_of(run)


def assert_true(bucket: dict[str, Any], rows: list[Row], service: Service) -> None:
    """Compare each percentile with the service's, within 1 % or 2 ms plus the transfer time of a request."""
    good = [row for row in rows if row["outcome"] == "ok"]
    seen = [float(row["seconds"]) for row in good]
    true = [service.spent[request_id(row)][1] - service.spent[request_id(row)][0] for row in good]
    under_way = [client - server for client, server in zip(seen, true, strict=True)]
    assert min(under_way) > -0.0005, "the service's time lies within the generator's"
    assert min(under_way) < 0.02, "nothing is added to each"
    for name, share in SHARES.items():
        truth = nearest_rank(true, share)
        tolerance = max(0.01 * truth, 0.002)
        assert truth - tolerance <= bucket[name] <= truth + tolerance + max(under_way), name
        assert bucket[name] == pytest.approx(nearest_rank(seen, share), abs=2e-6), name


DELAYS: dict[str, Callable[[int], float]] = {
    "fixed": lambda number: 0.08,
    "two points": lambda number: 0.3 if number % 8 == 0 else 0.02,
}


@pytest.mark.parametrize("delay", DELAYS.values(), ids=DELAYS)
def test_percentiles_are_those_of_the_service(
    tmp_path: Path, service: Service, delay: Callable[[int], float]
) -> None:
    service.delay = delay
    bucket, rows = measure(tmp_path, service)
    assert (len(rows), bucket["failures"]) == (int(RPS * SECONDS) - bucket["omitted"], 0)
    assert_true(bucket, rows, service)
    if delay is DELAYS["two points"]:
        assert bucket["p50Seconds"] < 0.2 < 0.3 <= bucket["p95Seconds"]


def test_failures_of_a_known_share_are_exact_and_stay_out_of_the_percentiles(
    tmp_path: Path, service: Service
) -> None:
    service.answer = lambda number: (500, {}) if number % 5 == 0 else (200, GOOD)
    service.delay = lambda number: 0.5 if number % 5 == 0 else 0.03
    bucket, rows = measure(tmp_path, service, users=32)
    assert bucket["requests"] == len(rows) == int(RPS * SECONDS) - bucket["omitted"]
    assert bucket["failures"] == math.ceil(len(rows) / 5)
    assert_true(bucket, rows, service)
    assert nearest_rank([float(row["seconds"]) for row in rows], 0.99) >= 0.5


def test_rate_limit_of_the_service_is_what_is_reported(tmp_path: Path, service: Service) -> None:
    """A service that admits 20 requests per second of its clock and refuses the others."""
    admitted: Counter[int] = Counter()
    answers: Counter[int] = Counter()
    lock = threading.Lock()

    def answer(number: int) -> tuple[int, object]:
        with lock:
            second = int(service.arrivals[number])
            admitted[second] += 1
            code = 200 if admitted[second] <= 20 else 429
            answers[code] += 1
        return code, GOOD

    service.answer = answer
    run = Run(tmp_path, service.url, a_spec())
    ended = run.wait()
    assert ended.status["requests"] == len(service.texts) == sum(answers.values())
    assert ended.status["failures"] == answers[429] > 0
    assert ended.status["failureKinds"] == f"{answers[429]} x http error 429"
    (bucket,) = ended.status["buckets"]
    assert bucket["requests"] + ended.status["mixed"]["requests"] == len(service.texts)
    ends = [float(row["end"]) for row in rows_of(run) if row["outcome"] == "ok"]
    assert len(ends) == bucket["requests"] - bucket["failures"]
    assert bucket["actualRps"] == pytest.approx(len(ends) / max(SECONDS, *ends), abs=1e-3)


STALL_BEGINS, STALL_SECONDS = 1.0, 2.0


def stall(service: Service) -> Callable[[int, float], None]:
    """Stop answering for STALL_SECONDS, STALL_BEGINS after the first request."""

    def hold(number: int, arrival: float) -> None:
        begins = service.arrivals[0] + STALL_BEGINS
        if begins <= arrival < begins + STALL_SECONDS:
            still = threading.Event()
            still.wait(begins + STALL_SECONDS - arrival)

    return hold


def test_stall_shows_in_the_latency_as_served_of_an_open_loop(tmp_path: Path, service: Service) -> None:
    service.hold = stall(service)
    bucket, rows = measure(tmp_path, service, seconds_per_bucket=4)
    assert (bucket["omitted"], bucket["delayed"]) == (0, 0)
    assert bucket["openRequestsPeak"] > RPS, "every request that is due during the stall is open at its end"
    stalled = [row for row in rows if float(row["seconds"]) > 0.75 * STALL_SECONDS]
    assert len(stalled) > RPS * STALL_SECONDS / 8
    assert bucket["p95Seconds"] > 0.75 * STALL_SECONDS


def test_stall_shows_in_the_corrected_latency_alone_at_the_limit_of_open_requests(
    tmp_path: Path, service: Service
) -> None:
    """At a limit of six open requests, the others wait in the generator."""
    service.hold = stall(service)
    users, seconds = 6, 4
    bucket, rows = measure(tmp_path, service, max_open_requests=users, seconds_per_bucket=seconds)
    assert [float(row["scheduled_start"]) for row in rows] == [int(row["slot"]) / RPS for row in rows]
    slots = {int(row["slot"]) for row in rows}
    left = [seconds - slot / RPS for slot in range(int(RPS * seconds)) if slot not in slots]
    assert len(left) == bucket["omitted"]
    begin = min(service.spent[request_id(row)][0] - float(row["start"]) for row in rows)
    true = [service.spent[request_id(row)][1] - begin - float(row["scheduled_start"]) for row in rows]
    under_way = max(float(row["end"]) - (service.spent[request_id(row)][1] - begin) for row in rows)
    for name, share in {
        "p50CorrectedSeconds": 0.5,
        "p95CorrectedSeconds": 0.95,
        "p99CorrectedSeconds": 0.99,
    }.items():
        truth = nearest_rank([*true, *left], share)
        tolerance = max(0.01 * truth, 0.002)
        assert truth - tolerance <= bucket[name] <= truth + tolerance + under_way, name
    assert bucket["p95CorrectedSeconds"] > 0.75 * STALL_SECONDS
    stalled = [row for row in rows if float(row["seconds"]) > 0.75 * STALL_SECONDS]
    assert 0 < len(stalled) <= users, "as served, only those under way when it began saw it"
    assert bucket["p95Seconds"] < bucket["p95CorrectedSeconds"] - 1


def test_poisson_arrivals_wait_in_the_queue_of_the_service(tmp_path: Path, service: Service) -> None:
    """One replica takes 0.05 s per request and is asked 17 times per second, a load of 85 %.

    The queue at the scheduled times is a lower bound: on a busy machine requests are only later.
    """
    service.hold = Replicas(1, 0.05)
    bucket, rows = measure(tmp_path, service, requested_rps=17, seconds_per_bucket=6, arrivals="poisson")
    scheduled = sorted(float(row["scheduled_start"]) for row in rows)
    assert len(scheduled) == 102
    free, ideal = 0.0, []
    for due in scheduled:
        free = max(free, due) + 0.05
        ideal.append(free - due)
    assert nearest_rank(ideal, 0.95) > 0.1, "with even intervals no request waits"
    assert bucket["p95CorrectedSeconds"] >= nearest_rank(ideal, 0.95) - 0.002
    assert (bucket["omitted"], bucket["delayed"]) == (0, 0)
