"""Reconciliation on an in-memory cluster with failures."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from support.builders import ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import STEPS, conditions, drive, message, run, settle, status
from toxicity_api.conditions import ConditionType
from toxicity_api.results import StageResult
from toxicity_operator.errors import ClusterError


@pytest.mark.parametrize("allowed", range(8))
@pytest.mark.parametrize("steps", range(len(STEPS)))
def test_operator_that_dies_after_any_write_leaves_one_job_per_stage(steps: int, allowed: int) -> None:
    cluster = drive(a_model(), steps)
    STEPS[steps](cluster)
    cluster.writes_until_failure = allowed
    for _ in range(3):
        with suppress(ClusterError):
            run(cluster)
    cluster.writes_until_failure = None
    settle(cluster)
    for step in STEPS[steps + 1 :]:
        step(cluster)
        settle(cluster)
    created = [name for kind, name in cluster.ever_created if kind == "Job"]
    assert len(created) == len(set(created)) == 4
    assert status(cluster)["stage"] == "Ready"


class StaleCluster(FakeCluster):
    """Cluster that answers lists with the objects at the time of `freeze`."""

    frozen: list[Any] | None = None

    def freeze(self) -> None:
        self.frozen = super().list_children("default", "ru-toxicity")

    def list_children(self, namespace: str, name: str) -> list[Any]:
        return super().list_children(namespace, name) if self.frozen is None else self.frozen


@pytest.mark.parametrize("steps", range(len(STEPS)))
def test_stale_view_of_the_children_makes_no_second_job(steps: int) -> None:
    cluster = StaleCluster(a_model().raw())
    settle(cluster)
    for step in STEPS[:steps]:
        step(cluster)
        cluster.freeze()
        run(cluster)
        run(cluster)
        cluster.frozen = None
        settle(cluster)
    assert (
        len(cluster.names_of("Job")) == len(set(cluster.names_of("Job"))) == {0: 1, 1: 2, 2: 3, 3: 3, 4: 4}[steps]
    )
    created = [name for kind, name in cluster.ever_created if kind == "Job"]
    assert len(created) == len(set(created))


def test_failed_stage_stops_the_pipeline_and_is_not_tried_again() -> None:
    cluster = drive(a_model(), 0)
    result = StageResult(
        stage="train", fingerprint="f", outcome="failed", reason="DatasetError", message="no column toxic"
    )
    cluster.fail_job("train", {"exitCode": 42, "reason": "Error", "message": result.to_termination_message()})
    settle(cluster)
    cluster.remove("Job")
    settle(cluster)
    assert cluster.names_of("Job") == []
    assert conditions(cluster)["Trained"] == ("False", "DatasetError")
    assert conditions(cluster)["Ready"] == ("False", "DatasetError")
    assert message(cluster, "Ready") == "no column toxic"
    assert status(cluster)["stage"] == "TrainingFailed"
    assert [event.reason for event in cluster.events if event.type == "Warning"] == ["TrainingFailed"]


def test_stage_killed_for_lack_of_memory_says_so_and_runs_again_when_given_more() -> None:
    model = a_model()
    cluster = drive(model, 0)
    cluster.fail_job("train", {"exitCode": 137, "reason": "OOMKilled"})
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("False", "JobFailed")
    assert "OOMKilled" in message(cluster, "Trained") and "137" in message(cluster, "Trained")
    fingerprint = status(cluster)["training"]["fingerprint"]
    cluster.change_spec(model.with_spec("training.resources.limits.memory", "16Gi").spec)
    settle(cluster)
    assert status(cluster)["stage"] == "Training"
    assert status(cluster)["training"]["fingerprint"] == fingerprint
    assert cluster.job("train")["metadata"]["name"] == status(cluster)["training"]["jobName"]


def test_more_memory_does_not_run_a_finished_stage_again() -> None:
    model = a_model()
    cluster = drive(model, 1)
    before = cluster.names_of("Job")
    cluster.change_spec(model.with_spec("training.resources.limits.memory", "16Gi").spec)
    settle(cluster)
    assert cluster.names_of("Job") == before


def test_job_without_a_result_document_has_failed() -> None:
    cluster = drive(a_model(), 0)
    cluster.finish_job("train", None)
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("False", "ResultMissing")
    assert len(cluster.names_of("Job")) == 1


def test_model_below_the_minimum_is_not_quantized() -> None:
    cluster = drive(a_model(), 0)
    cluster.finish_training(f1=0.4)
    settle(cluster)
    assert conditions(cluster)["QualityAccepted"] == ("False", "BelowMinimumF1")
    assert "0.4000" in message(cluster, "QualityAccepted") and "0.5000" in message(cluster, "QualityAccepted")
    assert len(cluster.names_of("Job")) == 1
    assert status(cluster)["stage"] == "QualityRefused"


def test_quantized_model_that_lost_too_much_is_not_served_until_the_gate_is_moved() -> None:
    model = a_model()
    cluster = drive(model, 2)
    cluster.finish_evaluation(f1=0.6, drop=0.3)
    settle(cluster)
    assert conditions(cluster)["QualityAccepted"] == ("False", "F1DropTooLarge")
    assert cluster.names_of("Deployment") == []
    jobs = cluster.names_of("Job")
    cluster.change_spec(model.with_spec("qualityGate.maxF1Drop", 0.5).spec)
    settle(cluster)
    assert cluster.names_of("Deployment") == ["ru-toxicity-serve"]
    assert cluster.names_of("Job") == jobs


def test_refused_new_version_leaves_the_old_one_serving() -> None:
    model = a_model()
    cluster = drive(model)
    deployment = cluster.objects["Deployment", "ru-toxicity-serve"]
    cluster.change_spec(model.with_spec("training.epochs", 0.1).spec)
    settle(cluster)
    cluster.finish_training(f1=0.1)
    settle(cluster)
    assert cluster.objects["Deployment", "ru-toxicity-serve"] == deployment
    assert conditions(cluster)["Available"][0] == "True"
    assert conditions(cluster)["Ready"] == ("False", "BelowMinimumF1")


def test_ready_follows_the_pods_that_serve() -> None:
    cluster = drive(a_model())
    cluster.roll_out(ready=0)
    crashed = {"name": "serve", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
               "lastState": {"terminated": {"exitCode": 139, "reason": "Error"}}}  # fmt: skip
    cluster.put_serving_pod("serve-0", {"containerStatuses": [crashed]})
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "NoReadyReplicas")
    assert "exit code 139" in message(cluster, "Ready")
    assert status(cluster)["stage"] == "Unavailable"
    cluster.roll_out(ready=1)
    cluster.remove("Pod")
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")


def test_load_test_without_complete_figures_has_failed_and_the_service_stays_ready() -> None:
    cluster = drive(a_model(), 4)
    cluster.finish_load_test("Failed")
    settle(cluster)
    assert conditions(cluster)["LoadTested"] == ("False", "ResultMissing")
    assert conditions(cluster)["Ready"] == ("True", "ReplicasReady")
    assert status(cluster)["stage"] == "LoadTestFailed"


def test_spec_that_makes_no_sense_is_told_and_changes_nothing() -> None:
    model = a_model()
    cluster = drive(model)
    objects = dict(cluster.objects)
    cluster.change_spec(model.with_spec("training.epochs", "many").spec)
    settle(cluster)
    assert cluster.objects == objects
    assert conditions(cluster)["Ready"] == ("False", "InvalidSpec")
    assert "spec.training.epochs" in message(cluster, "Ready")
    assert conditions(cluster)["Trained"] == ("True", "Succeeded")
    assert status(cluster)["training"]["f1"] == 0.9
    assert status(cluster)["loadTest"]["actualRps"] == 9.98
    cluster.change_spec(model.spec)
    settle(cluster)
    assert status(cluster)["stage"] == "Ready"


def test_new_resource_with_a_bad_spec_has_every_condition() -> None:
    cluster = FakeCluster(a_model().with_spec("training.epochs", "many").raw())
    settle(cluster)
    assert set(conditions(cluster)) == {str(kind) for kind in ConditionType}
    assert cluster.objects == {}


class RefusingCluster(FakeCluster):
    """Cluster that rejects new objects of some kinds, like a quota."""

    refused = frozenset({"Job"})

    def create(self, body: Any) -> None:
        if body["kind"] in self.refused:
            raise ClusterError(f"{body['kind']} is forbidden: exceeded quota", 403)
        super().create(body)


@pytest.mark.parametrize(
    ("service_is_there", "ready"), [(True, ("True", "ReplicasReady")), (False, ("False", "ApplyFailed"))]
)
def test_refused_write_takes_ready_away_only_where_nobody_can_reach_the_pods(
    service_is_there: bool, ready: tuple[str, str]
) -> None:
    cluster = RefusingCluster(drive(a_model(), 4).model or {})
    cluster.objects = drive(a_model(), 4).objects
    if not service_is_there:
        cluster.remove("Service")
    cluster.refused = frozenset({"Job", "Service"})
    cluster.change_spec(a_model().with_spec("loadTest.runId", "2").spec)
    run(cluster)
    assert conditions(cluster)["Ready"] == ready
    assert "exceeded quota" in message(cluster, "Ready")
    assert ("some objects could not be applied" in message(cluster, "Ready")) is service_is_there


def test_refused_write_is_told_in_the_status() -> None:
    cluster = RefusingCluster(a_model().raw())
    outcome = run(cluster)
    assert outcome.failure is not None
    assert conditions(cluster)["Ready"] == ("False", "ApplyFailed")
    assert "exceeded quota" in message(cluster, "Ready")


def test_children_of_a_namesake_of_before_are_not_taken_for_its_own() -> None:
    cluster = drive(a_model())
    second = FakeCluster(ModelBuilder(uid="uid-2").raw())
    second.objects = cluster.objects
    run(second)
    assert conditions(second)["Ready"] == ("False", "Waiting")
    assert conditions(second)["Trained"] == ("Unknown", "Waiting")
    assert conditions(second)["Available"] == ("False", "Waiting")
    second.objects = {}
    settle(second)
    assert status(second)["stage"] == "Training"


def test_condition_says_when_the_autoscaler_does_not_get_its_metric() -> None:
    cluster = drive(a_model().with_spec("serving.autoscaling", {"minReplicas": 1, "maxReplicas": 2}))
    assert conditions(cluster)["Scalable"] == ("Unknown", "Waiting")
    autoscaler = cluster.objects["HorizontalPodAutoscaler", "ru-toxicity-serve"]
    for status_word, reason, words in (
        ("False", "MetricMissing", "no metrics returned from resource metrics API"),
        ("True", "MetricAvailable", "valid metric found"),
    ):
        autoscaler["status"] = {
            "conditions": [{"type": "ScalingActive", "status": status_word, "reason": "x", "message": words}]
        }
        settle(cluster)
        assert conditions(cluster)["Scalable"] == (status_word, reason)
    assert conditions(cluster)["Ready"][0] == "True"


def test_gate_that_is_moved_above_the_model_stops_what_runs_for_it() -> None:
    model = a_model()
    cluster = drive(model, 1)
    (running,) = [name for name in cluster.names_of("Job") if "-quantize-" in name]
    cluster.change_spec(model.with_spec("qualityGate.minF1", 0.99).spec)
    settle(cluster)
    assert conditions(cluster)["QualityAccepted"] == ("False", "BelowMinimumF1")
    assert running not in cluster.names_of("Job")
    cluster.change_spec(model.spec)
    settle(cluster)
    assert running in cluster.names_of("Job")


@pytest.mark.parametrize("amount", ["8GB", "1e.5", "1e9999999"])
def test_amount_that_is_none_is_left_to_the_api_server(amount: str) -> None:
    """The CRD schema rejects only the first of these. A crash of the pass would leave the status unchanged."""
    cluster = FakeCluster(a_model().with_spec("training.resources.limits.memory", amount).raw())
    settle(cluster)
    limits = cluster.job("train")["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["memory"] == amount


def test_amount_of_a_deployed_version_that_is_none_is_left_to_the_api_server() -> None:
    cluster = drive(a_model())
    cluster.change_spec(a_model().with_spec("serving.resources.limits.memory", "8GB").spec)
    settle(cluster)
    containers = cluster.objects["Deployment", "ru-toxicity-serve"]["spec"]["template"]["spec"]["containers"]
    assert containers[0]["resources"]["limits"]["memory"] == "8GB"
