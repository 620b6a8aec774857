"""A version that does not become ready is replaced by the last good one."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from support.builders import ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, fingerprint_of, message, run, settle, status
from toxicity_operator import names

DEPLOYMENT = ("Deployment", "ru-toxicity-serve")
AUTOSCALER = ("HorizontalPodAutoscaler", "ru-toxicity-serve")


def broken(model: ModelBuilder) -> dict[str, Any]:
    """The spec with too little memory for the serving pods."""
    return model.with_spec("serving.resources.limits.memory", "1Mi").spec


def crash_pod(cluster: FakeCluster) -> None:
    """A serving pod that is OOMKilled repeatedly."""
    killed = {"name": "serve", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
              "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}  # fmt: skip
    cluster.put_serving_pod("serve-0", {"containerStatuses": [killed]})


def rolled_back(model: ModelBuilder) -> tuple[FakeCluster, str, str]:
    """The cluster after a rollback, the good version and the failed one."""
    cluster = drive(model)
    good = fingerprint_of(cluster)
    cluster.change_spec(broken(model))
    settle(cluster)
    bad = fingerprint_of(cluster)
    crash_pod(cluster)
    cluster.stall()
    settle(cluster)
    return cluster, good, bad


def test_version_that_does_not_become_ready_gives_way_to_the_last_good_one() -> None:
    before = drive(a_model()).objects[DEPLOYMENT]["spec"]["template"]
    cluster, good, bad = rolled_back(a_model())
    assert good != bad
    assert fingerprint_of(cluster) == good
    assert cluster.objects[DEPLOYMENT]["spec"]["template"] == before
    serving = status(cluster)["serving"]
    assert (serving["goodFingerprint"], serving["failedFingerprint"]) == (good, bad)
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert status(cluster)["stage"] == "RolledBack"
    for part in (good, bad, "900 s", "OOMKilled"):
        assert part in message(cluster, "Ready")
    assert [event.reason for event in cluster.events if "ack" in event.reason] == ["RolledBack"]


def test_given_up_version_is_not_tried_again_until_the_spec_changes() -> None:
    model = a_model()
    cluster, good, bad = rolled_back(model)
    cluster.roll_out()
    cluster.remove("Pod")
    settle(cluster)
    assert conditions(cluster)["Available"][0] == "True"
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    writes = cluster.writes
    for minute in range(20):
        run(cluster, f"2030-01-01T02:{minute:02}:00Z")
    assert (fingerprint_of(cluster), cluster.writes) == (good, writes)
    cluster.change_spec(model.with_spec("serving.resources.limits.memory", "9Gi").spec)
    settle(cluster)
    assert fingerprint_of(cluster) not in (good, bad)
    cluster.roll_out()
    settle(cluster)
    assert conditions(cluster)["Ready"][0] == "True"
    assert "failedFingerprint" not in status(cluster)["serving"]


def test_restored_version_stays_while_its_replica_set_is_missing() -> None:
    """The Deployment controller makes a deleted ReplicaSet again, and until then the Deployment has its template."""
    cluster, good, bad = rolled_back(a_model())
    cluster.roll_out()
    cluster.remove("Pod")
    cluster.remove("ReplicaSet")
    settle(cluster)
    assert fingerprint_of(cluster) == good
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert status(cluster)["serving"]["failedFingerprint"] == bad


def test_spec_of_the_good_version_ends_the_roll_back() -> None:
    model = a_model()
    cluster, good, _ = rolled_back(model)
    cluster.roll_out()
    cluster.remove("Pod")
    cluster.change_spec(model.spec)
    settle(cluster)
    assert fingerprint_of(cluster) == good
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert names.FAILED_FINGERPRINT not in cluster.objects[DEPLOYMENT]["metadata"]["annotations"]


def test_failure_is_remembered_where_the_status_was_lost() -> None:
    cluster, good, bad = rolled_back(a_model())
    assert cluster.model is not None
    del cluster.model["status"]["serving"]
    settle(cluster)
    assert fingerprint_of(cluster) == good
    assert status(cluster)["serving"]["failedFingerprint"] == bad


def test_failed_spec_is_remembered_during_the_next_training_as_long_as_the_status_is() -> None:
    cluster, _, bad = rolled_back(a_model())
    failed_for = status(cluster)["serving"]["failedFor"]
    assert failed_for
    cluster.change_spec(a_model().with_spec("training.epochs", 2.0).spec)
    settle(cluster)
    serving = status(cluster)["serving"]
    assert (serving["failedFingerprint"], serving["failedFor"]) == (bad, failed_for)
    assert cluster.model is not None
    del cluster.model["status"]["serving"]
    settle(cluster)
    serving = status(cluster)["serving"]
    assert (serving["failedFingerprint"], serving.get("failedFor")) == (bad, None)


def test_failure_is_remembered_where_the_deployment_was_deleted_with_its_revisions() -> None:
    cluster, good, bad = rolled_back(a_model())
    cluster.remove("Deployment")
    cluster.remove("ReplicaSet")
    settle(cluster)
    assert fingerprint_of(cluster) == bad, "nothing is left to restore the good version from"
    assert status(cluster)["serving"]["failedFingerprint"] == bad
    assert conditions(cluster)["Ready"] == ("False", "RollOutFailed")
    assert f"the ReplicaSet of the last good version {good} no longer exists" in message(cluster, "Ready")


def test_first_version_that_fails_has_nothing_to_go_back_to_and_may_still_recover() -> None:
    cluster = drive(a_model(), 3)
    cluster.roll_out(ready=0)
    crash_pod(cluster)
    cluster.stall()
    settle(cluster)
    bad = fingerprint_of(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RollOutFailed")
    assert "no earlier version" in message(cluster, "Ready")
    cluster.roll_out()
    cluster.remove("Pod")
    settle(cluster)
    assert fingerprint_of(cluster) == bad
    assert conditions(cluster)["Ready"][0] == "True"
    assert "failedFingerprint" not in status(cluster)["serving"]


def test_no_load_test_runs_against_a_restored_version() -> None:
    cluster, _, _ = rolled_back(a_model())
    before = cluster.names_of("Job")
    cluster.roll_out()
    settle(cluster)
    assert cluster.names_of("Job") == before


def test_autoscaled_replicas_are_left_alone_by_a_roll_back() -> None:
    scaled = a_model().with_spec("serving.autoscaling", {"minReplicas": 1, "maxReplicas": 3})
    cluster = drive(scaled)
    good, autoscalers = fingerprint_of(cluster), copy.deepcopy(cluster.objects[AUTOSCALER]["spec"])
    cluster.objects[DEPLOYMENT]["spec"]["replicas"] = 3  # the autoscaler has set them
    cluster.change_spec(broken(scaled))
    settle(cluster)
    crash_pod(cluster)
    cluster.stall()
    settle(cluster)
    assert fingerprint_of(cluster) == good
    assert cluster.held == [3], "the API server would set a field without a manager to 1"
    assert "replicas" not in cluster.objects[DEPLOYMENT]["spec"]
    assert cluster.objects[AUTOSCALER]["spec"] == autoscalers


def test_nothing_is_said_to_be_restored_when_the_revision_of_the_good_version_is_gone() -> None:
    cluster = drive(a_model())
    cluster.remove("ReplicaSet")
    cluster.change_spec(broken(a_model()))
    settle(cluster)
    crash_pod(cluster)
    cluster.stall()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RollOutFailed")
    assert "was restored" not in message(cluster, "Ready")


@pytest.mark.parametrize("field", ["training.learningRate", "quantization.groupSize", "serving.maxModelLen"])
def test_next_version_is_rolled_out_after_one_was_given_up(field: str) -> None:
    """The failed version stays recorded while the stages of the new spec run."""
    cluster, _, _ = rolled_back(a_model())
    cluster.roll_out()
    cluster.remove("Pod")
    settle(cluster)
    value = {"training.learningRate": 1e-4, "quantization.groupSize": 32, "serving.maxModelLen": 256}[field]
    cluster.change_spec(a_model().with_spec(field, value).spec)
    settle(cluster)
    for part, finish in (
        ("train", cluster.finish_training),
        ("quantize", cluster.finish_quantization),
        ("evaluate", cluster.finish_evaluation),
    ):
        if any(
            f"-{part}-" in name and not cluster.objects["Job", name].get("status")
            for name in cluster.names_of("Job")
        ):
            finish()
            settle(cluster)
    assert names.FAILED_FINGERPRINT not in cluster.objects[DEPLOYMENT]["metadata"]["annotations"]
    cluster.roll_out()
    settle(cluster)
    cluster.finish_load_test()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert "failedFingerprint" not in status(cluster)["serving"]


def test_good_version_that_loses_its_pods_during_the_next_training_is_not_given_up() -> None:
    cluster = drive(a_model())
    good = fingerprint_of(cluster)
    cluster.change_spec(a_model().with_spec("training.epochs", 2.0).spec)
    settle(cluster)
    cluster.roll_out(ready=0)
    crash_pod(cluster)
    cluster.stall()
    settle(cluster)
    assert fingerprint_of(cluster) == good
    assert names.FAILED_FINGERPRINT not in cluster.objects[DEPLOYMENT]["metadata"]["annotations"]
    assert status(cluster)["serving"]["goodFingerprint"] == good
    assert "failedFingerprint" not in status(cluster)["serving"]
