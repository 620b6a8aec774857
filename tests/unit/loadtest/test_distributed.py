"""A real Locust master and its workers on the loopback interface, each in a separate process."""

from __future__ import annotations

import csv
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.loadtest.service import Run, Service, free_port, running_service
from toxicity_api.spec import LoadTestSpec


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as service:
        yield service


def a_spec(**fields: object) -> LoadTestSpec:
    base: dict[str, object] = {
        "users": 8, "requested_rps": 40, "bucket_step": 50, "max_length": 50, "seconds_per_bucket": 2,
        "warmup_seconds": 0, "workers": 2, "arrivals": "uniform",
    }  # fmt: skip
    return LoadTestSpec.model_validate(base | fields)


def start(folder: Path, service: Service, spec: LoadTestSpec, *arguments: str) -> list[Run]:
    """The master and its workers."""
    port = free_port()
    return [
        Run(folder, service.url, spec, *arguments, index=index, port=port) for index in range(spec.workers + 1)
    ]


def test_workers_offer_the_load_together_and_every_record_reaches_the_master(
    tmp_path: Path, service: Service
) -> None:
    service.delay = lambda number: 0.02
    runs = start(tmp_path, service, a_spec(warmup_seconds=1))
    master, *workers = [run.wait() for run in runs]
    assert master.exit_code == 0, master.log
    assert [(worker.exit_code, worker.result["outcome"]) for worker in workers] == [(0, "succeeded")] * 2
    assert (master.status["state"], master.status["workers"]) == ("Complete", 2)
    assert "partial" not in master.status
    (bucket,) = master.status["buckets"]
    mixed = master.status["mixed"]
    for result in (bucket, mixed):
        assert (result["requests"] + result["omitted"], result["failures"]) == (80, 0)
    assert master.status["requests"] == bucket["requests"] + mixed["requests"]
    assert len(service.texts) == master.status["warmupRequests"] + master.status["requests"]
    with (runs[0].folder / "requests.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["bucket"] == "1-50"]
    slots = [int(row["slot"]) for row in rows]
    assert slots == sorted(set(slots)) and len(slots) == bucket["requests"] and max(slots) < 80
    assert {slot % 2 for slot in slots} == {0, 1}, "both workers"
    assert [worker.statuses for worker in workers] == [[], []], "the master alone reports"


def test_lost_worker_makes_the_result_partial_and_ends_the_run(tmp_path: Path, service: Service) -> None:
    into_the_second_bucket = threading.Event()
    service.hold = lambda number, arrival: (
        into_the_second_bucket.set() if len(service.texts[number]) > 50 else None
    )
    master, kept, lost = start(tmp_path, service, a_spec(max_length=100))
    assert into_the_second_bucket.wait(60)
    lost.process.send_signal(signal.SIGKILL)
    lost.process.communicate()
    ended, worker = master.wait(), kept.wait()
    assert ended.exit_code == 1
    assert (ended.status["state"], ended.status["partial"]) == ("Partial", True)
    assert [bucket["name"] for bucket in ended.status["buckets"]] == ["1-50"]
    assert ended.status["message"].startswith("1 of 2 workers were lost in window 51-100")
    assert "conclusions" not in ended.status
    assert ended.status["buckets"][0]["requests"] < ended.status["requests"] <= len(service.texts)
    assert (ended.result["outcome"], ended.result["reason"]) == ("failed", "WorkerLost")
    assert worker.exit_code == 0


def test_workers_that_do_not_come_are_counted(tmp_path: Path, service: Service) -> None:
    master = Run(tmp_path, service.url, a_spec(), "--workers-seconds", "1", port=free_port()).wait()
    assert (master.status["state"], master.result["reason"]) == ("Failed", "WorkersMissing")
    assert master.status["message"] == "0 of 2 workers connected within 1 s: see the logs of their pods"
    assert service.texts == []


def test_outage_that_a_worker_meets_fails_the_run(tmp_path: Path, service: Service) -> None:
    service.answer = lambda number: (503, {})
    runs = start(tmp_path, service, a_spec(seconds_per_bucket=60, max_outage_seconds=1))
    master, *workers = [run.wait() for run in runs]
    assert (master.status["state"], master.result["reason"]) == ("Failed", "ServiceUnavailable")
    assert master.status["requests"] == master.status["failures"] == len(service.texts)
    assert [worker.exit_code for worker in workers] == [0, 0]


def test_sigterm_of_the_master_sends_the_workers_home(tmp_path: Path, service: Service) -> None:
    master, *workers = start(tmp_path, service, a_spec(seconds_per_bucket=60))
    begun = service.got_some.wait(60)
    master.process.send_signal(signal.SIGTERM)
    ended = master.wait()
    assert begun, ended.log
    assert (ended.status["state"], ended.result["reason"]) == ("Failed", "Terminated")
    assert [worker.wait().exit_code for worker in workers] == [0, 0]


def test_worker_without_usable_texts_says_so(tmp_path: Path, service: Service) -> None:
    worker = Run(tmp_path, service.url, a_spec(), csv="comment\nда\n", index=1, port=free_port()).wait()
    assert (worker.exit_code, worker.result["reason"]) == (42, "InvalidTexts")
