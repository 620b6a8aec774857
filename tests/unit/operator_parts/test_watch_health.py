"""Failing watches appear in the metrics, in the log and in the liveness probe."""

from __future__ import annotations

import logging

import pytest

from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.health import WatchHealth

JOBS, PODS, SCALERS = ("Job", "moderation"), ("Pod", None), ("ScaledObject", None)
FORBIDDEN, FORGOTTEN = ClusterError("jobs is forbidden", 403), ClusterError("too old", 410)


class Watches:
    """Three watches, a manual clock and the counted failures."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.counted: list[tuple[str, int]] = []
        self.health = WatchHealth(lambda kind, error: self.counted.append((kind, error.status)), lambda: self.now)
        for watched in (JOBS, PODS, SCALERS):
            self.health.begin(watched, optional=watched == SCALERS)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.message) for record in caplog.records]


def test_every_failure_is_counted_and_the_log_has_two_lines_of_them(caplog: pytest.LogCaptureFixture) -> None:
    watches = Watches()
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            watches.health.failed(JOBS, FORBIDDEN)
            watches.now += 30
    assert watches.counted == [("Job", 403)] * 100
    assert lines(caplog) == [("WARNING", "watch_failed"), ("ERROR", "watch_keeps_failing")]
    assert (vars(caplog.records[0])["kind"], vars(caplog.records[0])["scope"]) == ("Job", "moderation")
    assert vars(caplog.records[1])["problem"] == "jobs is forbidden"


def test_recovery_is_said_and_a_new_failure_is_said_again(caplog: pytest.LogCaptureFixture) -> None:
    watches = Watches()
    with caplog.at_level(logging.INFO):
        watches.health.failed(PODS, FORGOTTEN)
        watches.now += 5
        watches.health.succeeded(PODS)
        watches.health.succeeded(PODS)
        watches.health.failed(PODS, FORGOTTEN)
    assert [message for _, message in lines(caplog)] == ["watch_failed", "watch_recovered", "watch_failed"]
    assert vars(caplog.records[1])["failed_seconds"] == 5


def test_kind_counts_as_not_followed_after_a_while_until_it_succeeds() -> None:
    watches = Watches()
    watches.now += 299
    watches.health.succeeded(PODS)
    assert watches.health.unfollowed(300) == []
    watches.now += 1
    assert watches.health.unfollowed(300) == ["Job"]
    watches.health.succeeded(JOBS)
    assert watches.health.unfollowed(300) == []


def test_kind_that_a_cluster_need_not_have_is_shown_and_not_held_against_the_process() -> None:
    watches = Watches()
    for _ in range(20):
        watches.now += 30
        watches.health.failed(SCALERS, FORBIDDEN)
        watches.health.succeeded(JOBS)
        watches.health.succeeded(PODS)
    assert watches.counted == [("ScaledObject", 403)] * 20
    assert watches.health.unfollowed(300) == []
    assert watches.health.ages() == {"Job": 0, "Pod": 0, "ScaledObject": 600}


def test_age_is_that_of_the_namespace_that_is_worst_off() -> None:
    watches = Watches()
    watches.health.begin(("Job", "staging"), optional=False)
    watches.now += 40
    watches.health.succeeded(("Job", "staging"))
    assert watches.health.ages()["Job"] == 40
