"""Reconciliation on an in-memory cluster without failures."""

from __future__ import annotations

import pytest

from support.builders import NOW, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import LATER, STEPS, conditions, drive, fingerprint_of, message, run, settle, status
from toxicity_operator import names
from toxicity_operator.observe.ownership import GRANDCHILDREN


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
        "Evaluated": ("Unknown", "Waiting"),
        "QualityAccepted": ("Unknown", "Waiting"),
        "Available": ("False", "Waiting"),
        "Scalable": ("True", "Skipped"),
        "Exposed": ("True", "Skipped"),
        "LoadTested": ("Unknown", "Waiting"),
        "PerformanceRegressed": ("Unknown", "Waiting"),
        "Ready": ("False", "Running"),
        "Reconciling": ("True", "Running"),
        "Stalled": ("False", "Running"),
    }
    assert status(cluster)["stage"] == "Training"
    assert {item["observedGeneration"] for item in status(cluster)["conditions"]} == {1}


def test_whole_pipeline_ends_ready_with_the_figures_in_status() -> None:
    cluster = drive(a_model())
    assert status(cluster)["stage"] == "Ready"
    assert {kind for kind, value in conditions(cluster).items() if value[0] == "True"} == {
        "Trained", "Quantized", "Evaluated", "QualityAccepted", "Available", "Scalable", "Exposed", "LoadTested",
        "Ready",
    }  # fmt: skip
    assert [status(cluster)[stage]["f1"] for stage in ("training", "quantization", "evaluation")] == [
        0.9,
        0.88,
        0.88,
    ]
    serving = status(cluster)["serving"]
    assert serving.pop("madeWith")["image"] == "serve-image:1"
    assert serving.pop("fingerprint") == annotation(cluster, names.SERVING_FINGERPRINT)
    assert serving == {
        "url": "http://ru-toxicity-serve.default.svc",
        "selector": "toxicity.dev/model=ru-toxicity,toxicity.dev/component=serve",
        "replicas": 1,
        "readyReplicas": 1,
        "modelFingerprint": status(cluster)["quantization"]["fingerprint"],
        "goodFingerprint": fingerprint_of(cluster),
    }
    assert len(cluster.names_of("Job")) == 4
    assert [event.reason for event in cluster.events] == [
        "TrainingStarted", "TrainingSucceeded", "QuantizationStarted", "QuantizationSucceeded",
        "EvaluationStarted", "EvaluationSucceeded", "QualityAccepted",
        "LoadTestStarted", "Ready", "LoadTestSucceeded",
    ]  # fmt: skip


def annotation(cluster: FakeCluster, key: str) -> str:
    found: str = cluster.objects["Deployment", "ru-toxicity-serve"]["metadata"]["annotations"][key]
    return found


def test_url_is_told_while_the_service_is_there() -> None:
    cluster = drive(a_model(), 2)
    assert "Service" not in {kind for kind, _ in cluster.objects}
    assert "url" not in status(cluster)
    cluster.finish_evaluation()
    run(cluster)
    assert status(cluster)["serving"]["madeWith"]["image"] == "serve-image:1"
    assert cluster.names_of("Service") == ["ru-toxicity-serve"]
    assert status(cluster)["url"] == "http://ru-toxicity-serve.default.svc"
    cluster.change_spec(a_model().with_spec("training.learningRate", 1e-4).spec)
    settle(cluster)
    assert status(cluster)["url"] == "http://ru-toxicity-serve.default.svc", "the version before serves"


def test_what_quantization_did_is_in_status_rounded() -> None:
    figures = status(drive(a_model()))["quantization"]
    wanted = {
        "quantizedLayers": 126, "keptLayers": 1, "meanError": 0.1034, "maxError": 0.1726, "calibrationSamples": 32,
        "calibrationHash": "5a" * 32, "sizeBytes": 300, "originalSizeBytes": 1000, "f1Drop": 0.02,
    }  # fmt: skip
    assert {key: figures.get(key) for key in wanted} == wanted


def test_every_child_is_owned_by_the_resource() -> None:
    cluster = drive(a_model().with_spec("serving.autoscaling", {"minReplicas": 1, "maxReplicas": 2}))
    kinds = {kind for kind, _ in cluster.objects if kind not in GRANDCHILDREN}
    assert kinds == {
        "PersistentVolumeClaim", "Job", "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget",
            "ServiceAccount",
        "Role", "RoleBinding",
    }  # fmt: skip
    for (kind, name), item in cluster.objects.items():
        if kind not in GRANDCHILDREN:
            (owner,) = item["metadata"]["ownerReferences"]
            assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("uid-1", True, True), name


@pytest.mark.parametrize("steps", range(len(STEPS) + 1))
def test_nothing_is_written_in_a_steady_state(steps: int) -> None:
    cluster = drive(a_model(), steps)
    before = cluster.writes
    for minute in range(20):
        run(cluster, f"2030-01-01T01:{minute:02}:00Z")
    assert cluster.writes == before


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
    cluster.finish_evaluation()
    settle(cluster)
    assert cluster.objects["Deployment", "ru-toxicity-serve"] != deployment
    cluster.roll_out(ready=1, replicas=2, updated=1)
    settle(cluster)
    assert status(cluster)["stage"] == "Deploying"
    assert len(cluster.names_of("Job")) == 7, "the load test waits until the old pods are gone"
    cluster.roll_out()
    settle(cluster)
    cluster.finish_load_test()
    settle(cluster)
    assert status(cluster)["stage"] == "Ready"
    assert len(cluster.names_of("Job")) == 8


def test_running_job_of_an_earlier_spec_is_deleted() -> None:
    model = a_model()
    cluster = drive(model, 0)
    (old,) = cluster.names_of("Job")
    cluster.change_spec(model.with_spec("training.epochs", 2.0).spec)
    settle(cluster)
    (new,) = cluster.names_of("Job")
    assert new != old


def test_replicas_belong_to_the_autoscaler() -> None:
    model = a_model().with_spec("serving.autoscaling", {"minReplicas": 1, "maxReplicas": 4})
    cluster = drive(model)
    assert "replicas" not in cluster.objects["Deployment", "ru-toxicity-serve"]["spec"]
    assert cluster.objects["HorizontalPodAutoscaler", "ru-toxicity-serve"]["spec"]["maxReplicas"] == 4
    cluster.change_spec(model.with_spec("serving.autoscaling", None).with_spec("serving.replicas", 3).spec)
    settle(cluster)
    assert cluster.names_of("HorizontalPodAutoscaler") == []
    assert cluster.objects["Deployment", "ru-toxicity-serve"]["spec"]["replicas"] == 3
    assert status(cluster)["stage"] == "Scaling"


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
    cluster = drive(a_model(), 4)
    figures = cluster.load_test_figures("Running")
    assert cluster.model is not None
    cluster.model["status"]["loadTest"] = figures
    cluster.roll_out(ready=0)
    settle(cluster)
    assert status(cluster)["loadTest"] == figures


def test_stages_that_are_switched_off_are_skipped() -> None:
    model = a_model().with_spec("quantization.method", "none").with_spec("loadTest.enabled", False)
    cluster = drive(model, 0)
    cluster.finish_training()
    settle(cluster)
    cluster.finish_evaluation(drop=None)
    settle(cluster)
    cluster.roll_out()
    settle(cluster)
    assert conditions(cluster)["Quantized"] == ("True", "Skipped")
    assert conditions(cluster)["LoadTested"] == ("True", "Skipped")
    assert message(cluster, "Quantized") == "disabled: spec.quantization.method is none"
    assert message(cluster, "LoadTested") == "disabled: spec.loadTest.enabled is false"
    assert message(cluster, "Scalable") == "disabled: spec.serving.autoscaling is not set"
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert status(cluster)["serving"]["modelFingerprint"] == status(cluster)["training"]["fingerprint"]
    assert len(cluster.names_of("Job")) == 2


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


def test_resource_that_is_being_deleted_is_left_alone() -> None:
    raw = a_model().raw()
    raw["metadata"]["deletionTimestamp"] = NOW
    cluster = FakeCluster(raw)
    run(cluster)
    assert (cluster.writes, cluster.objects) == (0, {})


def test_transition_time_moves_only_with_the_status() -> None:
    cluster = drive(a_model(), 0)
    cluster.finish_training()
    run(cluster, LATER)
    times = {item["type"]: item["lastTransitionTime"] for item in status(cluster)["conditions"]}
    assert (times["Trained"], times["Ready"], times["Available"]) == (LATER, NOW, NOW)
