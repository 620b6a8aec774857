"""A new or changed schedule applies to future times: no load test runs for an earlier slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.builders import NOW, ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import drive, run, settle, status, take_steps

NIGHTLY = "0 3 * * *"
AFTERNOON = "2030-01-10T15:00:00Z"
NEXT_SLOT = "2030-01-11T03:00:00Z"
NEXT_NIGHT = "2030-01-11T03:00:05Z"


def load_tests(cluster: FakeCluster) -> list[str]:
    """The names of all load test Jobs that were created."""
    return [name for kind, name in cluster.ever_created if kind == "Job" and "-loadtest-" in name]


def load_tested(model: ModelBuilder) -> FakeCluster:
    """A Ready model, created and load tested on 1 January."""
    raw = model.raw()
    raw["metadata"]["creationTimestamp"] = NOW
    cluster = FakeCluster(raw)
    take_steps(cluster)
    return cluster


def nights(cluster: FakeCluster, *days: int) -> None:
    """Run the load tests of these nights successfully."""
    for day in days:
        run(cluster, f"2030-01-{day:02}T03:00:05Z")
        cluster.finish_load_test()
        run(cluster, f"2030-01-{day:02}T03:20:00Z")


def is_set(model: ModelBuilder) -> FakeCluster:
    cluster = load_tested(model)
    cluster.change_spec(model.with_spec("loadTest.schedule", NIGHTLY).spec)
    return cluster


def is_moved(model: ModelBuilder) -> FakeCluster:
    cluster = load_tested(model.with_spec("loadTest.schedule", "0 14 * * *"))
    cluster.change_spec(model.with_spec("loadTest.schedule", NIGHTLY).spec)
    return cluster


def is_removed_and_set_again(model: ModelBuilder) -> FakeCluster:
    nightly = model.with_spec("loadTest.schedule", NIGHTLY)
    cluster = load_tested(nightly)
    nights(cluster, 2)
    cluster.change_spec(model.spec)
    run(cluster, "2030-01-03T00:00:00Z")
    cluster.change_spec(nightly.spec)
    return cluster


def is_enabled_again(model: ModelBuilder) -> FakeCluster:
    nightly = model.with_spec("loadTest.schedule", NIGHTLY)
    cluster = load_tested(nightly)
    cluster.change_spec(nightly.with_spec("loadTest.enabled", False).spec)
    run(cluster, "2030-01-02T00:00:00Z")
    cluster.change_spec(nightly.spec)
    return cluster


def comes_with_a_newer_operator(model: ModelBuilder) -> FakeCluster:
    """Earlier operators did not record when they first saw the schedule."""
    cluster = load_tested(model.with_spec("loadTest.schedule", NIGHTLY))
    status(cluster).pop("loadTestSchedule", None)
    return cluster


def is_set_while_it_was_no_schedule(model: ModelBuilder) -> FakeCluster:
    cluster = load_tested(model)
    cluster.change_spec(model.with_spec("loadTest.schedule", "61 3 * * *").spec)
    run(cluster, "2030-01-10T14:00:00Z")
    cluster.change_spec(model.with_spec("loadTest.schedule", NIGHTLY).spec)
    return cluster


CHANGES: list[Callable[[ModelBuilder], FakeCluster]] = [
    is_set,
    is_moved,
    is_removed_and_set_again,
    is_enabled_again,
    comes_with_a_newer_operator,
    is_set_while_it_was_no_schedule,
]


@pytest.mark.parametrize("change", CHANGES)
def test_schedule_runs_at_its_next_moment_and_not_for_one_before(
    change: Callable[[ModelBuilder], FakeCluster],
) -> None:
    cluster = change(a_model())
    before = load_tests(cluster)
    for minute in range(3):
        run(cluster, f"2030-01-10T15:{minute:02}:00Z")
    run(cluster, "2030-01-11T02:59:59Z")
    assert load_tests(cluster) == before
    assert status(cluster)["loadTestSchedule"] == {"schedule": NIGHTLY, "since": AFTERNOON}
    for moment in (NEXT_NIGHT, "2030-01-11T03:01:00Z"):
        run(cluster, moment)
        assert len(load_tests(cluster)) == len(before) + 1
    assert status(cluster)["loadTestJob"]["slot"] == NEXT_SLOT
    cluster.finish_load_test()
    for hour in range(4, 24):
        run(cluster, f"2030-01-11T{hour:02}:00:00Z")
    assert len(load_tests(cluster)) == len(before) + 1


def test_schedule_that_is_moved_behind_the_run_of_today_does_not_run_again_today() -> None:
    model = a_model().with_spec("loadTest.schedule", NIGHTLY)
    cluster = load_tested(model)
    nights(cluster, 9, 10)
    before = load_tests(cluster)
    cluster.change_spec(model.with_spec("loadTest.schedule", "0 14 * * *").spec)
    run(cluster, AFTERNOON)
    run(cluster, "2030-01-11T13:59:59Z")
    assert load_tests(cluster) == before
    run(cluster, "2030-01-11T14:00:05Z")
    assert len(load_tests(cluster)) == len(before) + 1


def test_moment_that_passed_while_no_operator_looked_is_run_once_when_one_comes_back() -> None:
    cluster = is_set(a_model())
    run(cluster, AFTERNOON)
    before = load_tests(cluster)
    for moment in ("2030-01-13T12:00:00Z", "2030-01-13T12:00:30Z"):
        run(cluster, moment)
        assert len(load_tests(cluster)) == len(before) + 1
    assert status(cluster)["loadTestJob"]["slot"] == "2030-01-13T03:00:00Z"


def test_since_when_it_is_known_is_written_once_and_survives_another_model() -> None:
    nightly = a_model().with_spec("loadTest.schedule", NIGHTLY)
    cluster = drive(nightly)
    known = {"schedule": NIGHTLY, "since": NOW}
    assert status(cluster)["loadTestSchedule"] == known
    writes = cluster.writes
    for minute in range(20):
        run(cluster, f"2030-01-01T01:{minute:02}:00Z")
    assert cluster.writes == writes
    cluster.change_spec(nightly.with_spec("training.epochs", 0.5).spec)
    run(cluster, "2030-01-01T02:00:00Z")
    assert "loadTestJob" not in status(cluster)
    assert status(cluster)["loadTestSchedule"] == known
    before = load_tests(cluster)
    take_steps(cluster, 4)
    assert len(load_tests(cluster)) == len(before) + 1


def test_schedule_that_is_removed_is_forgotten() -> None:
    model = a_model()
    cluster = drive(model.with_spec("loadTest.schedule", NIGHTLY))
    cluster.change_spec(model.spec)
    settle(cluster)
    found: dict[str, Any] = status(cluster)
    assert "loadTestSchedule" not in found
