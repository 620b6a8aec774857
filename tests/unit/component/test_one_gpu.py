"""One GPU is shared by the stages and the serving pods."""

from __future__ import annotations

from contextlib import suppress

import pytest

from support.builders import ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, fingerprint_of, message, run, settle, status
from toxicity_operator import names
from toxicity_operator.errors import ClusterError

SERVE = "ru-toxicity-serve"
DEPLOYMENT = ("Deployment", SERVE)
NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: no victims found."
BY_REQUESTS = {"metric": "inFlight", "prometheusAddress": "http://prometheus:9090", "minReplicas": 2}


def one_gpu() -> ModelBuilder:
    model = a_model().with_spec("serving.strategy", "Recreate")
    for stage in ("training", "quantization", "serving"):
        model = model.with_spec(f"{stage}.gpus", 1)
    return model


def retrain(model: ModelBuilder) -> ModelBuilder:
    return model.with_spec("training.epochs", 2.0)


def waiting(model: ModelBuilder, words: str = NO_GPU) -> FakeCluster:
    """A serving model whose next version waits for the GPU in its training."""
    cluster = drive(model)
    cluster.change_spec(retrain(model).spec)
    settle(cluster)
    cluster.leave_pod_pending("train", words)
    settle(cluster)
    return cluster


def handed_over(model: ModelBuilder) -> FakeCluster:
    """As `waiting`, and the training uses the GPU."""
    cluster = waiting(model)
    cluster.roll_out(ready=0, replicas=0)
    cluster.schedule_pods()
    settle(cluster)
    return cluster


def replicas(cluster: FakeCluster) -> int | None:
    found: int | None = cluster.objects[DEPLOYMENT]["spec"].get("replicas")
    return found


def holder(cluster: FakeCluster) -> str | None:
    """The Job that uses the GPU according to the Deployment."""
    found: str | None = cluster.objects[DEPLOYMENT]["metadata"]["annotations"].get(names.HANDED_TO)
    return found


def test_pods_that_serve_make_room_for_a_stage_that_finds_no_gpu() -> None:
    before = drive(one_gpu()).objects[DEPLOYMENT]["spec"]
    cluster = waiting(one_gpu())
    job = cluster.job("train")["metadata"]["name"]
    assert cluster.objects[DEPLOYMENT]["spec"] == before | {"replicas": 0}
    assert holder(cluster) == job
    cluster.roll_out(ready=0, replicas=0)
    settle(cluster)
    assert conditions(cluster)["Available"] == ("False", "GPUHandedOver")
    assert job in message(cluster, "Available")
    assert conditions(cluster)["Trained"] == ("Unknown", "WaitingForGPU")
    assert [event.reason for event in cluster.events if event.reason == "GPUHandedOver"] == ["GPUHandedOver"]
    cluster.schedule_pods()
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("Unknown", "Running")
    assert "is stopped to free its GPU" in message(cluster, "Ready")


def test_gpu_goes_from_stage_to_stage_and_back_with_the_new_version() -> None:
    cluster = handed_over(one_gpu())
    old, seen = fingerprint_of(cluster), [holder(cluster)]
    for component, finish in (("train", cluster.finish_training), ("quantize", cluster.finish_quantization)):
        assert holder(cluster) == cluster.job(component)["metadata"]["name"]
        finish()
        settle(cluster)
        seen.append(holder(cluster))
        assert replicas(cluster) == 0
    writes = cluster.writes
    for minute in range(20):
        run(cluster, f"2030-01-01T04:{minute:02}:00Z")
    assert cluster.writes == writes, "what is decided stands"
    assert seen[-1] == cluster.job("evaluate")["metadata"]["name"]
    assert len(set(seen)) == 3
    cluster.finish_evaluation()
    settle(cluster)
    assert (replicas(cluster), holder(cluster)) == (1, None)
    assert fingerprint_of(cluster) != old
    cluster.roll_out()
    settle(cluster)
    cluster.finish_load_test()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")


def test_good_version_serves_again_when_a_stage_fails() -> None:
    before = drive(one_gpu()).objects[DEPLOYMENT]
    cluster = handed_over(one_gpu())
    cluster.fail_job("train", {"exitCode": 1, "reason": "Error"})
    settle(cluster)
    after = cluster.objects[DEPLOYMENT]
    assert (after["spec"], holder(cluster)) == (before["spec"], None)
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    cluster.roll_out()
    settle(cluster)
    assert conditions(cluster)["Available"] == ("True", "ReplicasReady")
    assert conditions(cluster)["Ready"] == ("False", "JobFailed")


@pytest.mark.parametrize("refused", [0.1, 0.5])
def test_good_version_serves_again_when_the_gate_refuses_the_new_one(refused: float) -> None:
    cluster = handed_over(one_gpu())
    cluster.finish_training(f1=0.9)
    settle(cluster)
    cluster.finish_quantization()
    settle(cluster)
    cluster.finish_evaluation(f1=refused)  # 0.1 misses the bound, of 0.5 the gate cannot say
    settle(cluster)
    assert conditions(cluster)["QualityAccepted"][0] == {0.1: "False", 0.5: "Unknown"}[refused]
    assert (replicas(cluster), holder(cluster)) == (1, None)
    assert fingerprint_of(cluster) == status(cluster)["serving"]["goodFingerprint"]


def test_last_good_version_comes_back_not_one_that_never_became_ready() -> None:
    model = one_gpu()
    cluster = drive(model)
    good = fingerprint_of(cluster)
    cluster.change_spec(model.with_spec("serving.threshold", 0.25).spec)
    settle(cluster)
    assert fingerprint_of(cluster) != good
    cluster.roll_out(ready=0)
    cluster.change_spec(retrain(model).spec)
    settle(cluster)
    cluster.leave_pod_pending("train", NO_GPU)
    settle(cluster)
    assert replicas(cluster) == 0
    cluster.schedule_pods()
    cluster.fail_job("train", {"exitCode": 1, "reason": "Error"})
    settle(cluster)
    assert (replicas(cluster), fingerprint_of(cluster)) == (1, good)


def test_stage_that_needs_no_gpu_gives_it_back_meanwhile() -> None:
    model = one_gpu().with_spec("quantization.gpus", 0)
    cluster = handed_over(model)
    cluster.finish_training()
    settle(cluster)
    assert (replicas(cluster), holder(cluster)) == (1, None)
    cluster.roll_out()
    cluster.finish_quantization()
    settle(cluster)
    assert replicas(cluster) == 1, "nothing is taken away before it is missed"
    cluster.leave_pod_pending("evaluate", NO_GPU)
    settle(cluster)
    assert replicas(cluster) == 0


def test_rolling_update_takes_nothing_away_and_says_what_to_do() -> None:
    cluster = waiting(one_gpu().with_spec("serving.strategy", "RollingUpdate"))
    assert (replicas(cluster), holder(cluster)) == (1, None)
    assert conditions(cluster)["Available"] == ("True", "ReplicasReady")
    for kind in ("Trained", "Ready"):
        assert conditions(cluster)[kind][1] == "WaitingForGPU"
        assert "serving.strategy: Recreate" in message(cluster, kind)
    assert "keeps serving" in message(cluster, "Ready")


def test_new_version_that_finds_no_gpu_beside_the_old_one_says_what_to_do() -> None:
    model = one_gpu().with_spec("serving.strategy", "RollingUpdate")
    cluster = drive(model)
    cluster.change_spec(model.with_spec("serving.threshold", 0.25).spec)
    settle(cluster)
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_GPU}
    cluster.put_serving_pod("serve-1", {"conditions": [unscheduled]})
    cluster.roll_out(ready=1, replicas=2, updated=1)
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "WaitingForGPU")
    assert "serving.strategy: Recreate" in message(cluster, "Ready")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("serving.gpus", 1, "0/1 nodes are available: 1 Insufficient cpu."),
        ("serving.gpus", 0, NO_GPU),
        ("training.gpus", 0, NO_GPU),
    ],
)
def test_nothing_is_taken_away_where_that_would_not_help(field: str, value: int, words: str) -> None:
    cluster = waiting(one_gpu().with_spec(field, value), words)
    assert (replicas(cluster), holder(cluster)) == (1, None)


def test_nothing_is_taken_from_a_service_without_replicas() -> None:
    model = one_gpu()
    cluster = drive(model)
    cluster.change_spec(retrain(model).with_spec("serving.replicas", 0).spec)
    settle(cluster)
    cluster.roll_out()
    cluster.leave_pod_pending("train", NO_GPU)
    settle(cluster)
    assert (replicas(cluster), holder(cluster)) == (0, None)


def test_paused_resource_keeps_what_it_has() -> None:
    model = one_gpu()
    cluster = drive(model)
    cluster.change_spec(retrain(model).spec)
    settle(cluster)
    cluster.change_spec(retrain(model).with_spec("paused", True).spec)
    cluster.leave_pod_pending("train", NO_GPU)
    settle(cluster)
    assert (replicas(cluster), holder(cluster)) == (1, None)


def test_autoscaled_pods_come_back_as_many_as_the_autoscaler_keeps_and_then_are_its_own() -> None:
    cluster = handed_over(one_gpu().with_spec("serving.autoscaling", {"minReplicas": 2, "maxReplicas": 3}))
    assert (replicas(cluster), cluster.names_of("HorizontalPodAutoscaler")) == (0, [SERVE])
    assert conditions(cluster)["Scalable"] == ("Unknown", "Waiting")
    for step in (cluster.finish_training, cluster.finish_quantization, cluster.finish_evaluation):
        step()
        run(cluster)
    assert replicas(cluster) == 2
    run(cluster)
    assert (cluster.held, replicas(cluster)) == ([2], None)


@pytest.mark.parametrize("fails", [False, True])
def test_keda_which_would_scale_up_at_once_is_put_away_meanwhile(fails: bool) -> None:
    cluster = handed_over(one_gpu().with_spec("serving.autoscaling", BY_REQUESTS))
    assert (replicas(cluster), cluster.names_of("ScaledObject")) == (0, [])
    if fails:
        cluster.fail_job("train", {"exitCode": 1, "reason": "Error"})
        run(cluster)
    else:
        for step in (cluster.finish_training, cluster.finish_quantization, cluster.finish_evaluation):
            step()
            run(cluster)
    assert (replicas(cluster), cluster.names_of("ScaledObject")) == (2, [SERVE])


@pytest.mark.parametrize("allowed", range(4))
def test_operator_that_dies_in_the_hand_over_goes_on_with_it(allowed: int) -> None:
    cluster = drive(one_gpu())
    cluster.change_spec(retrain(one_gpu()).spec)
    settle(cluster)
    cluster.leave_pod_pending("train", NO_GPU)
    cluster.writes_until_failure = allowed
    with suppress(ClusterError):
        run(cluster)
    cluster.writes_until_failure = None
    settle(cluster)
    assert (replicas(cluster), holder(cluster)) == (0, cluster.job("train")["metadata"]["name"])


def test_good_version_serves_again_when_the_trained_model_is_refused_before_its_evaluation() -> None:
    cluster = handed_over(one_gpu())
    cluster.finish_training(f1=0.1)
    settle(cluster)
    assert conditions(cluster)["QualityAccepted"] == ("False", "BelowMinimumF1")
    assert (replicas(cluster), holder(cluster)) == (1, None)
