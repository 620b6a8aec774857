"""With loadTest.onRegression: RollBack, a version that its load test found slower gives way to the one before."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest

from support.builders import ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import (
    NEWER,
    ROLLING,
    conditions,
    drive,
    fingerprint_of,
    message,
    passes,
    run,
    settle,
    status,
)
from toxicity_operator import names
from toxicity_operator.errors import ClusterError
from toxicity_operator.settings import OperatorSettings

DEPLOYMENT = ("Deployment", "ru-toxicity-serve")
SLOWER = {"regressed": True, "p95Change": 0.5, "message": "p95 of the mix is 0.3 s; it was 0.2 s"}
AS_BEFORE = {"regressed": False, "p95Change": 0.01, "message": "p95 of the mix is 0.2 s; it was 0.2 s"}


def rolling_back() -> ModelBuilder:
    return a_model().with_spec("loadTest.onRegression", "RollBack")


def slower(model: ModelBuilder) -> ModelBuilder:
    """Another version of the serving pods of the same model."""
    return model.with_spec("serving.threshold", 0.4)


def end_load_test(cluster: FakeCluster, comparison: dict[str, Any] | None) -> None:
    cluster.finish_load_test()
    assert cluster.model is not None
    cluster.model["status"]["loadTest"] |= {"comparison": comparison} if comparison else {}
    settle(cluster)


def change(cluster: FakeCluster, model: ModelBuilder) -> None:
    """Change the spec and let its version become ready."""
    cluster.change_spec(model.spec)
    settle(cluster)
    cluster.roll_out()
    settle(cluster)


def regressed(model: ModelBuilder | None = None) -> tuple[FakeCluster, str, str]:
    """The cluster after the load test of a second version found it slower, the first version and the second."""
    model = model or rolling_back()
    cluster = drive(model)
    first = fingerprint_of(cluster)
    change(cluster, slower(model))
    second = fingerprint_of(cluster)
    end_load_test(cluster, SLOWER)
    return cluster, first, second


def serving(cluster: FakeCluster) -> dict[str, Any]:
    found: dict[str, Any] = status(cluster)["serving"]
    return found


def test_slower_version_gives_way_to_the_one_before() -> None:
    before = drive(rolling_back()).objects[DEPLOYMENT]["spec"]["template"]
    cluster, first, second = regressed()
    assert first != second
    assert fingerprint_of(cluster) == first
    assert cluster.objects[DEPLOYMENT]["spec"]["template"] == before
    assert (serving(cluster)["goodFingerprint"], serving(cluster)["failedFingerprint"]) == (first, second)
    assert serving(cluster)["failedInRun"] == "1"
    assert "previousFingerprint" not in serving(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert conditions(cluster)["PerformanceRegressed"] == ("True", "SlowerThanBefore")
    for part in (first, second, "0.3 s", "loadTest.runId", "loadTest.onRegression"):
        assert part in message(cluster, "Ready")
    assert "ready within" not in message(cluster, "Ready")
    assert [event.reason for event in cluster.events if "ack" in event.reason or "Regr" in event.reason] == [
        "RolledBack",
        "PerformanceRegressed",
    ]


def test_restored_version_is_not_tested_and_nothing_more_happens() -> None:
    cluster, first, _ = regressed()
    cluster.roll_out()
    settle(cluster)
    jobs, writes = cluster.names_of("Job"), cluster.writes
    settle(cluster)
    assert (cluster.names_of("Job"), cluster.writes) == (jobs, writes)
    assert fingerprint_of(cluster) == first
    assert conditions(cluster)["Available"][0] == "True"
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert conditions(cluster)["PerformanceRegressed"] == ("True", "SlowerThanBefore")


@pytest.mark.parametrize("comparison", [None, AS_BEFORE])
def test_version_without_a_regression_keeps_serving(comparison: dict[str, Any] | None) -> None:
    model = rolling_back()
    cluster = drive(model)
    change(cluster, slower(model))
    second = fingerprint_of(cluster)
    end_load_test(cluster, comparison)
    assert fingerprint_of(cluster) == second
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert "previousFingerprint" not in serving(cluster), "the version before is no longer needed"


def test_by_default_a_regression_is_only_reported() -> None:
    cluster, first, second = regressed(a_model())
    assert fingerprint_of(cluster) == second != first
    assert "previousFingerprint" not in serving(cluster)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert conditions(cluster)["PerformanceRegressed"] == ("True", "SlowerThanBefore")
    cluster.change_spec(slower(rolling_back()).spec)
    settle(cluster)
    assert fingerprint_of(cluster) == second, "a version that was accepted is not rolled back afterwards"


def test_first_version_has_nothing_to_go_back_to() -> None:
    cluster = drive(rolling_back(), 4)
    first = fingerprint_of(cluster)
    end_load_test(cluster, SLOWER)
    assert fingerprint_of(cluster) == first
    assert conditions(cluster)["Ready"][0] == "True"
    assert "no version before it is known" in message(cluster, "PerformanceRegressed")


def test_version_whose_revision_is_gone_is_not_restored() -> None:
    model = rolling_back()
    cluster = drive(model)
    cluster.remove("ReplicaSet")
    change(cluster, slower(model))
    second = fingerprint_of(cluster)
    end_load_test(cluster, SLOWER)
    assert fingerprint_of(cluster) == second
    assert conditions(cluster)["Ready"][0] == "True"
    assert "ReplicaSet" in message(cluster, "PerformanceRegressed")


def test_later_run_of_an_accepted_version_is_only_reported() -> None:
    model = rolling_back()
    cluster = drive(model)
    change(cluster, slower(model))
    second = fingerprint_of(cluster)
    end_load_test(cluster, AS_BEFORE)
    cluster.change_spec(slower(model).with_spec("loadTest.runId", "2").spec)
    settle(cluster)
    end_load_test(cluster, SLOWER)
    assert fingerprint_of(cluster) == second
    assert conditions(cluster)["PerformanceRegressed"] == ("True", "SlowerThanBefore")
    assert "an earlier load test has accepted it" in message(cluster, "PerformanceRegressed")


def test_another_run_tries_the_version_again_and_may_accept_it() -> None:
    cluster, first, second = regressed()
    change(cluster, slower(rolling_back()).with_spec("loadTest.runId", "2"))
    assert fingerprint_of(cluster) == second
    assert serving(cluster)["previousFingerprint"] == first
    assert "failedFingerprint" not in serving(cluster)
    assert names.FAILED_RUN not in cluster.objects[DEPLOYMENT]["metadata"]["annotations"]
    end_load_test(cluster, AS_BEFORE)
    assert fingerprint_of(cluster) == second
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")


def test_another_run_may_find_the_same_again() -> None:
    cluster, first, second = regressed()
    change(cluster, slower(rolling_back()).with_spec("loadTest.runId", "2"))
    end_load_test(cluster, SLOWER)
    assert fingerprint_of(cluster) == first
    assert (serving(cluster)["failedFingerprint"], serving(cluster)["failedInRun"]) == (second, "2")
    assert [event.reason for event in cluster.events].count("RolledBack") == 2


@pytest.mark.parametrize(("field", "value"), [("onRegression", "Report"), ("enabled", False)])
def test_user_may_serve_the_slower_version(field: str, value: object) -> None:
    cluster, _, second = regressed()
    change(cluster, slower(rolling_back()).with_spec(f"loadTest.{field}", value))
    assert fingerprint_of(cluster) == second
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert "failedFingerprint" not in serving(cluster)


def test_another_version_is_tried_and_compared_with_the_last_good_one() -> None:
    cluster, first, second = regressed()
    change(cluster, rolling_back().with_spec("serving.threshold", 0.3))
    third = fingerprint_of(cluster)
    assert third not in (first, second)
    assert serving(cluster)["previousFingerprint"] == first
    end_load_test(cluster, SLOWER)
    assert fingerprint_of(cluster) == first


def test_scheduled_time_does_not_try_the_slower_version_again() -> None:
    cluster, first, _ = regressed(rolling_back().with_spec("loadTest.schedule", "0 3 * * *"))
    for day in (2, 3):
        for _ in range(2):
            run(cluster, f"2030-01-{day:02}T04:00:00Z")
    assert fingerprint_of(cluster) == first
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert conditions(cluster)["PerformanceRegressed"] == ("True", "SlowerThanBefore")


def test_spec_of_the_version_before_ends_the_roll_back() -> None:
    cluster, first, _ = regressed()
    change(cluster, rolling_back())
    assert fingerprint_of(cluster) == first
    end_load_test(cluster, AS_BEFORE)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert names.FAILED_FINGERPRINT not in cluster.objects[DEPLOYMENT]["metadata"]["annotations"]


def test_failed_load_test_rolls_nothing_back_and_keeps_the_version_before() -> None:
    """A load test that failed says nothing about the version. The next run decides."""
    model = rolling_back()
    cluster = drive(model)
    first = fingerprint_of(cluster)
    change(cluster, slower(model))
    second = fingerprint_of(cluster)
    cluster.fail_job("loadtest", {"exitCode": 1, "reason": "Error"})
    settle(cluster)
    assert fingerprint_of(cluster) == second
    assert serving(cluster)["previousFingerprint"] == first
    cluster.change_spec(slower(model).with_spec("loadTest.runId", "2").spec)
    settle(cluster)
    end_load_test(cluster, SLOWER)
    assert fingerprint_of(cluster) == first


def test_untested_version_does_not_become_the_one_to_restore() -> None:
    """The second version is replaced before its load test has ended, so the third one gives way to the first."""
    model = rolling_back()
    cluster = drive(model)
    first = fingerprint_of(cluster)
    change(cluster, slower(model))
    change(cluster, model.with_spec("serving.threshold", 0.3))
    assert serving(cluster)["previousFingerprint"] == first
    end_load_test(cluster, SLOWER)
    assert fingerprint_of(cluster) == first


def test_paused_resource_is_rolled_back_when_it_continues() -> None:
    model = rolling_back()
    cluster = drive(model)
    first = fingerprint_of(cluster)
    change(cluster, slower(model))
    second = fingerprint_of(cluster)
    cluster.change_spec(slower(model).with_spec("paused", True).spec)
    settle(cluster)
    end_load_test(cluster, SLOWER)
    assert fingerprint_of(cluster) == second
    assert conditions(cluster)["Ready"][0] == "True"
    assert "failedFingerprint" not in serving(cluster)
    cluster.change_spec(slower(model).spec)
    settle(cluster)
    assert fingerprint_of(cluster) == first


def test_roll_back_is_remembered_where_the_status_was_lost() -> None:
    cluster, first, second = regressed()
    assert cluster.model is not None
    del cluster.model["status"]["serving"]
    settle(cluster)
    assert fingerprint_of(cluster) == first
    assert (serving(cluster)["failedFingerprint"], serving(cluster)["failedInRun"]) == (second, "1")


def test_roll_back_is_remembered_while_the_next_model_is_trained() -> None:
    cluster, first, second = regressed()
    cluster.change_spec(slower(rolling_back()).with_spec("training.epochs", 2.0).spec)
    settle(cluster)
    assert fingerprint_of(cluster) == first
    assert (serving(cluster)["failedFingerprint"], serving(cluster)["failedInRun"]) == (second, "1")
    cluster.change_spec(slower(rolling_back()).spec)
    settle(cluster)
    assert fingerprint_of(cluster) == first, "the slower version is not tried again"


@pytest.mark.parametrize("settings", [NEWER, ROLLING])
def test_upgrade_of_the_operator_does_not_try_the_slower_version_again(settings: OperatorSettings) -> None:
    """The templates of a newer operator are not measured again, so they are the same version to a load test."""
    cluster, first, _ = regressed(rolling_back().with_spec("images.serving", "chosen:1"))
    cluster.roll_out()
    settle(cluster)
    passes(cluster, settings)
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert fingerprint_of(cluster) == first


def test_roll_back_that_is_interrupted_at_any_write_ends_as_an_undisturbed_one() -> None:
    model = rolling_back()
    cluster = drive(model)
    change(cluster, slower(model))
    cluster.finish_load_test()
    assert cluster.model is not None
    cluster.model["status"]["loadTest"] |= {"comparison": SLOWER}
    undisturbed = copy.deepcopy(cluster)
    begin = undisturbed.writes
    settle(undisturbed)
    writes = undisturbed.writes - begin
    assert writes > 1
    for done in range(writes):
        interrupted = copy.deepcopy(cluster)
        interrupted.writes_until_failure = done
        with suppress(ClusterError):  # the status cannot be written
            run(interrupted)
        interrupted.writes_until_failure = None
        settle(interrupted)
        assert serving(interrupted) == serving(undisturbed)
        assert fingerprint_of(interrupted) == fingerprint_of(undisturbed)
        assert conditions(interrupted) == conditions(undisturbed)
