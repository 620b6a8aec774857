"""Load tests by schedule, and the bounds of the autoscaler during a load test."""

from __future__ import annotations

from typing import Any

from support.builders import ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, run, settle, status

NIGHTLY = "0 3 * * *"
SCALED = {"minReplicas": 1, "maxReplicas": 4}
SERVE = "ru-toxicity-serve"


def load_tests(cluster: FakeCluster) -> list[str]:
    return [name for name in cluster.names_of("Job") if "-loadtest-" in name]


def bounds(cluster: FakeCluster) -> tuple[int, int]:
    spec: dict[str, Any] = cluster.objects["HorizontalPodAutoscaler", SERVE]["spec"]
    return spec["minReplicas"], spec["maxReplicas"]


def scheduled() -> tuple[ModelBuilder, FakeCluster]:
    """A Ready model, created on 1 January at midnight, with a load test every night at three."""
    model = a_model().with_spec("loadTest.schedule", NIGHTLY)
    return model, drive(model)


def test_each_slot_runs_once_and_nothing_runs_between() -> None:
    _, cluster = scheduled()
    assert len(load_tests(cluster)) == 1
    run(cluster, "2030-01-01T02:59:59Z")
    assert len(load_tests(cluster)) == 1
    for moment in ("2030-01-01T03:00:01Z", "2030-01-01T03:00:31Z"):
        run(cluster, moment)
        assert len(load_tests(cluster)) == 2
    assert status(cluster)["loadTestJob"]["slot"] == "2030-01-01T03:00:00Z"
    cluster.finish_load_test()
    for hour in range(4, 24):
        run(cluster, f"2030-01-01T{hour:02}:00:00Z")
    assert len(load_tests(cluster)) == 2
    assert conditions(cluster)["LoadTested"] == ("True", "Succeeded")


def test_slot_that_passes_while_a_run_is_under_way_does_not_cut_it_off() -> None:
    _, cluster = scheduled()
    run(cluster, "2030-01-01T03:00:01Z")
    (running,) = [n for n in load_tests(cluster) if not cluster.objects["Job", n].get("status")]
    run(cluster, "2030-01-02T03:00:01Z")
    assert running in load_tests(cluster)
    assert len(load_tests(cluster)) == 2


def test_schedule_that_is_removed_or_set_starts_nothing() -> None:
    model, cluster = scheduled()
    before = load_tests(cluster)
    cluster.change_spec(model.with_spec("loadTest.schedule", None).spec)
    run(cluster, "2030-01-01T05:00:00Z")
    assert load_tests(cluster) == before


def test_bad_schedule_is_told_with_its_field() -> None:
    cluster = FakeCluster(a_model().with_spec("loadTest.schedule", "61 3 * * *").raw())
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "InvalidSpec")
    assert "spec.loadTest.schedule" in message(cluster, "Ready")


def pinned(steps: int) -> FakeCluster:
    return drive(a_model().with_spec("serving.autoscaling", SCALED), steps)


def test_autoscaler_is_held_while_the_load_test_runs_and_let_go_after_it() -> None:
    cluster = pinned(3)
    assert bounds(cluster) == (1, 4)
    cluster.roll_out(ready=2, replicas=2)
    settle(cluster)
    assert bounds(cluster) == (2, 2)
    cluster.finish_load_test()
    settle(cluster)
    assert bounds(cluster) == (1, 4)


def test_autoscaler_is_let_go_when_the_load_test_fails() -> None:
    cluster = pinned(4)
    assert bounds(cluster) == (1, 1)
    cluster.fail_job("loadtest", {"exitCode": 1, "reason": "Error"})
    settle(cluster)
    assert bounds(cluster) == (1, 4)


def test_autoscaler_is_not_held_if_the_spec_says_so() -> None:
    model = a_model().with_spec("serving.autoscaling", SCALED).with_spec("loadTest.pinReplicas", False)
    cluster = drive(model, 4)
    assert bounds(cluster) == (1, 4)


def test_several_workers_have_a_service_to_find_their_master_by() -> None:
    cluster = drive(a_model().with_spec("loadTest.workers", 2))
    assert "ru-toxicity-loadtest" in cluster.names_of("Service")
    assert "ru-toxicity-loadtest" not in drive(a_model()).names_of("Service")
