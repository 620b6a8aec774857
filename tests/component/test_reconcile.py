"""Reconcile on an in-memory cluster: state in, state out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from builders import NOW, SETTINGS, ModelBuilder, a_model
from fake_cluster import FakeCluster
from toxicity_api.results import StageResult
from toxicity_operator import names
from toxicity_operator.errors import ClusterError
from toxicity_operator.reconcile import Outcome, reconcile

LATER = "2030-01-01T00:05:00Z"


def run(cluster: FakeCluster, now: str = NOW) -> Outcome:
    return reconcile(cluster, SETTINGS, "default", "ru-toxicity", now)


def settle(cluster: FakeCluster) -> None:
    """Reconciles until nothing is written any more."""
    for _ in range(5):
        before = cluster.writes
        run(cluster)
        if cluster.writes == before:
            return
    raise AssertionError("reconcile does not come to rest")


def conditions(cluster: FakeCluster) -> dict[str, tuple[str, str]]:
    assert cluster.model is not None
    return {item["type"]: (item["status"], item["reason"]) for item in cluster.model["status"]["conditions"]}


def status(cluster: FakeCluster) -> dict[str, Any]:
    assert cluster.model is not None
    found: dict[str, Any] = cluster.model["status"]
    return found


def message(cluster: FakeCluster, kind: str) -> str:
    return next(str(item["message"]) for item in status(cluster)["conditions"] if item["type"] == kind)


STEPS: list[Callable[[FakeCluster], None]] = [
    lambda cluster: cluster.finish_training(),
    lambda cluster: cluster.finish_quantization(),
    lambda cluster: cluster.roll_out(),
    lambda cluster: cluster.finish_load_test(),
]


def drive(model: ModelBuilder, steps: int = len(STEPS)) -> FakeCluster:
    """A cluster in which the first `steps` stages are done."""
    cluster = FakeCluster(model.raw())
    settle(cluster)
    for step in STEPS[:steps]:
        step(cluster)
        settle(cluster)
    return cluster


def test_first_pass_starts_training_and_sets_every_condition() -> None:
    cluster = FakeCluster(a_model().raw())
    run(cluster)
    assert cluster.names_of("PersistentVolumeClaim") == ["ru-toxicity-artifacts"]
    assert cluster.names_of("Job") == [status(cluster)["training"]["jobName"]]
    assert set(cluster.objects) == {
        ("PersistentVolumeClaim", "ru-toxicity-artifacts"),
        ("Job", status(cluster)["training"]["jobName"]),
    }
    assert conditions(cluster) == {
        "Trained": ("Unknown", "Running"),
        "Quantized": ("Unknown", "Waiting"),
        "QualityAccepted": ("Unknown", "Waiting"),
        "Available": ("False", "Waiting"),
        "LoadTested": ("Unknown", "Waiting"),
        "Ready": ("False", "Running"),
    }
    assert status(cluster)["stage"] == "Training"
    assert {item["observedGeneration"] for item in status(cluster)["conditions"]} == {1}


def test_whole_pipeline_ends_ready_with_the_figures_in_status() -> None:
    cluster = drive(a_model())
    assert status(cluster)["stage"] == "Ready"
    assert {kind: value[0] for kind, value in conditions(cluster).items()} == dict.fromkeys(
        ("Trained", "Quantized", "QualityAccepted", "Available", "LoadTested", "Ready"), "True"
    )
    assert (status(cluster)["training"]["f1"], status(cluster)["quantization"]["f1"]) == (0.9, 0.88)
    assert status(cluster)["serving"] == {
        "url": "http://ru-toxicity-serve.default.svc",
        "replicas": 1,
        "readyReplicas": 1,
        "modelFingerprint": status(cluster)["quantization"]["fingerprint"],
    }
    assert len(cluster.names_of("Job")) == 3
    assert [event.reason for event in cluster.events] == [
        "TrainingStarted", "TrainingSucceeded", "QuantizationStarted", "QuantizationSucceeded", "QualityAccepted",
        "LoadTestStarted", "Ready", "LoadTestSucceeded",
    ]  # fmt: skip


def test_every_child_is_owned_by_the_resource() -> None:
    cluster = drive(a_model().with_spec("serving.autoscaling", {"minReplicas": 1, "maxReplicas": 2}))
    kinds = {kind for kind, _ in cluster.objects if kind != "Pod"}
    assert kinds == {
        "PersistentVolumeClaim", "Job", "Deployment", "Service", "HorizontalPodAutoscaler", "ServiceAccount",
        "Role", "RoleBinding",
    }  # fmt: skip
    for (kind, name), item in cluster.objects.items():
        if kind != "Pod":
            (owner,) = item["metadata"]["ownerReferences"]
            assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("uid-1", True, True), name


@pytest.mark.parametrize("steps", range(len(STEPS) + 1))
def test_nothing_is_written_in_a_steady_state(steps: int) -> None:
    cluster = drive(a_model(), steps)
    before = cluster.writes
    for minute in range(20):
        run(cluster, f"2030-01-01T01:{minute:02}:00Z")
    assert cluster.writes == before


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
    assert len(created) == len(set(created)) == 3
    assert status(cluster)["stage"] == "Ready"


class StaleCluster(FakeCluster):
    """Answers lists with what was there at the time of `freeze`."""

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
    assert len(cluster.names_of("Job")) == len(set(cluster.names_of("Job"))) == {0: 1, 1: 2, 2: 2, 3: 3}[steps]
    created = [name for kind, name in cluster.ever_created if kind == "Job"]
    assert len(created) == len(set(created))


@pytest.mark.parametrize("steps", range(1, len(STEPS) + 1))
def test_finished_stage_is_not_run_again_when_its_job_is_gone(steps: int) -> None:
    cluster = drive(a_model(), steps)
    done = {name for name in cluster.names_of("Job") if cluster.objects["Job", name].get("status")}
    figures = status(cluster)["training"]
    for name in done:
        del cluster.objects["Job", name]
    cluster.remove("Pod")
    settle(cluster)
    assert not done & set(cluster.names_of("Job"))
    assert status(cluster)["training"] == figures


def test_job_removed_while_it_ran_is_started_again_under_the_same_name() -> None:
    cluster = drive(a_model(), 0)
    (before,) = cluster.names_of("Job")
    cluster.remove("Job")
    settle(cluster)
    assert cluster.names_of("Job") == [before]


def test_new_run_id_makes_one_new_load_test_and_nothing_else() -> None:
    model = a_model()
    cluster = drive(model)
    before, deployment = set(cluster.names_of("Job")), cluster.objects["Deployment", "ru-toxicity-serve"]
    cluster.change_spec(model.with_spec("loadTest.runId", "2").spec)
    settle(cluster)
    (new,) = set(cluster.names_of("Job")) - before
    assert new.startswith("ru-toxicity-loadtest-")
    assert cluster.objects["Deployment", "ru-toxicity-serve"] == deployment
    assert before < set(cluster.names_of("Job")), "finished Jobs of earlier runs stay until their TTL"
    assert conditions(cluster)["Ready"] == ("True", "ReplicasReady")
    cluster.finish_load_test()
    settle(cluster)
    assert status(cluster)["stage"] == "Ready"


def test_changed_learning_rate_runs_everything_again_and_the_old_version_keeps_serving() -> None:
    model = a_model()
    cluster = drive(model)
    deployment = cluster.objects["Deployment", "ru-toxicity-serve"]
    cluster.change_spec(model.with_spec("training.learningRate", 1e-4).spec)
    settle(cluster)
    cluster.finish_training()
    settle(cluster)
    assert cluster.objects["Deployment", "ru-toxicity-serve"] == deployment
    assert conditions(cluster)["Available"] == ("True", "ReplicasReady")
    assert conditions(cluster)["Ready"][0] == "False"
    assert "keeps serving" in message(cluster, "Ready")
    cluster.finish_quantization()
    settle(cluster)
    assert cluster.objects["Deployment", "ru-toxicity-serve"] != deployment
    cluster.roll_out(ready=1, replicas=2, updated=1)
    settle(cluster)
    assert status(cluster)["stage"] == "Deploying"
    assert len(cluster.names_of("Job")) == 5, "the load test waits until the old pods are gone"
    cluster.roll_out()
    settle(cluster)
    cluster.finish_load_test()
    settle(cluster)
    assert status(cluster)["stage"] == "Ready"
    assert len(cluster.names_of("Job")) == 6


def test_running_job_of_an_earlier_spec_is_deleted() -> None:
    model = a_model()
    cluster = drive(model, 0)
    (old,) = cluster.names_of("Job")
    cluster.change_spec(model.with_spec("training.epochs", 2.0).spec)
    settle(cluster)
    (new,) = cluster.names_of("Job")
    assert new != old


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
    cluster = drive(model, 1)
    cluster.finish_quantization(f1=0.6, drop=0.3)
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
    labels = names.labels("ru-toxicity", names.SERVE)
    cluster.objects["Pod", "serve-0"] = {
        "kind": "Pod",
        "metadata": {"name": "serve-0", "labels": labels},
        "status": {"containerStatuses": [crashed]},
    }
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "NoReadyReplicas")
    assert "exit code 139" in message(cluster, "Ready")
    assert status(cluster)["stage"] == "Unavailable"
    cluster.roll_out(ready=1)
    cluster.remove("Pod")
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")


def test_replicas_belong_to_the_autoscaler() -> None:
    model = a_model().with_spec("serving.autoscaling", {"minReplicas": 1, "maxReplicas": 4})
    cluster = drive(model)
    assert "replicas" not in cluster.objects["Deployment", "ru-toxicity-serve"]["spec"]
    assert cluster.objects["HorizontalPodAutoscaler", "ru-toxicity-serve"]["spec"]["maxReplicas"] == 4
    cluster.change_spec(model.with_spec("serving.autoscaling", None).with_spec("serving.replicas", 3).spec)
    settle(cluster)
    assert cluster.names_of("HorizontalPodAutoscaler") == []
    assert cluster.objects["Deployment", "ru-toxicity-serve"]["spec"]["replicas"] == 3
    assert status(cluster)["stage"] == "Deploying"


def test_scaling_runs_no_stage_again() -> None:
    model = a_model()
    cluster = drive(model)
    jobs = cluster.names_of("Job")
    cluster.change_spec(model.with_spec("serving.replicas", 2).spec)
    settle(cluster)
    cluster.roll_out(ready=2, replicas=2)
    settle(cluster)
    assert cluster.names_of("Job") == jobs
    assert status(cluster)["stage"] == "Ready"


def test_figures_of_the_load_test_survive_the_operators_writes() -> None:
    cluster = drive(a_model(), 3)
    figures = cluster.load_test_figures("Running")
    assert cluster.model is not None
    cluster.model["status"]["loadTest"] = figures
    cluster.roll_out(ready=0)
    settle(cluster)
    assert status(cluster)["loadTest"] == figures


def test_load_test_without_complete_figures_has_failed_and_the_service_stays_ready() -> None:
    cluster = drive(a_model(), 3)
    cluster.finish_load_test("Failed")
    settle(cluster)
    assert conditions(cluster)["LoadTested"] == ("False", "ResultMissing")
    assert conditions(cluster)["Ready"] == ("True", "ReplicasReady")
    assert status(cluster)["stage"] == "LoadTestFailed"


def test_stages_that_are_switched_off_are_skipped() -> None:
    model = a_model().with_spec("quantization.method", "none").with_spec("loadTest.enabled", False)
    cluster = drive(model, 0)
    cluster.finish_training()
    settle(cluster)
    cluster.roll_out()
    settle(cluster)
    assert conditions(cluster)["Quantized"] == ("False", "Skipped")
    assert conditions(cluster)["LoadTested"] == ("False", "Skipped")
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert status(cluster)["serving"]["modelFingerprint"] == status(cluster)["training"]["fingerprint"]
    assert len(cluster.names_of("Job")) == 1


def test_deleted_children_come_back() -> None:
    cluster = drive(a_model())
    for kind in ("Service", "Role", "RoleBinding", "ServiceAccount", "PersistentVolumeClaim"):
        before = cluster.names_of(kind)
        cluster.remove(kind)
        settle(cluster)
        assert cluster.names_of(kind) == before, kind


def test_existing_claim_is_used_and_none_is_made() -> None:
    cluster = drive(a_model().with_spec("storage.claimName", "mine"), 0)
    assert cluster.names_of("PersistentVolumeClaim") == []
    volumes = cluster.job("train")["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["persistentVolumeClaim"] == {"claimName": "mine"}


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
    assert len(conditions(cluster)) == 6
    assert cluster.objects == {}


class RefusingCluster(FakeCluster):
    """Refuses every Job, as a quota would."""

    def apply(self, body: Any) -> None:
        if body["kind"] == "Job":
            raise ClusterError("jobs.batch is forbidden: exceeded quota", 403)
        super().apply(body)


def test_refused_write_is_told_in_the_status() -> None:
    cluster = RefusingCluster(a_model().raw())
    outcome = run(cluster)
    assert outcome.failure is not None
    assert conditions(cluster)["Ready"] == ("False", "ApplyFailed")
    assert "exceeded quota" in message(cluster, "Ready")


def test_resource_that_is_being_deleted_is_left_alone() -> None:
    raw = a_model().raw()
    raw["metadata"]["deletionTimestamp"] = NOW
    cluster = FakeCluster(raw)
    run(cluster)
    assert (cluster.writes, cluster.objects) == (0, {})


def test_children_of_a_namesake_of_before_are_not_taken_for_its_own() -> None:
    cluster = drive(a_model())
    second = FakeCluster(ModelBuilder(uid="uid-2").raw())
    second.objects = cluster.objects
    run(second)
    assert conditions(second)["Ready"] == ("False", "ApplyFailed")
    assert conditions(second)["Trained"] == ("Unknown", "Waiting")
    assert conditions(second)["Available"] == ("False", "Waiting")
    second.objects = {}
    settle(second)
    assert status(second)["stage"] == "Training"


def test_transition_time_moves_only_with_the_status() -> None:
    cluster = drive(a_model(), 0)
    cluster.finish_training()
    run(cluster, LATER)
    times = {item["type"]: item["lastTransitionTime"] for item in status(cluster)["conditions"]}
    assert (times["Trained"], times["Ready"], times["Available"]) == (LATER, NOW, NOW)
