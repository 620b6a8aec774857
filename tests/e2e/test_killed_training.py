"""A training pod that is killed half way: its successor goes on from the checkpoint, and the status tells all along."""

from __future__ import annotations

import pytest

from support.e2e.scenario import condition, config_map_of, get_model, jobs, pods_of, small_model
from toxicity_api.conditions import ConditionType
from toxicity_cluster.demo_install import SAMPLE_DATASET, Installation
from toxicity_cluster.demo_kubectl import Manifest, wait_until
from toxicity_cluster.demo_watch import status_of

pytestmark = pytest.mark.e2e

NAME = "resumed"
HALF_WAY_SECONDS = 6 * 60
TRAINED_SECONDS = 10 * 60
CHECKPOINT_STEPS = 5


def model_that_only_trains(cluster: Installation) -> Manifest:
    """Two epochs of thirty steps; its gate lets no model pass, so that nothing is served after it."""
    model = small_model(NAME, "comments", cluster.images)
    spec = model["spec"]
    spec["training"].update({"epochs": 2, "checkpointSteps": CHECKPOINT_STEPS})
    spec["quantization"] = {"method": "none", "gpus": 0}
    spec["qualityGate"] = {"metric": "toxicF1", "minF1": 1.0}
    spec["loadTest"] = {"enabled": False}
    return model


def test_a_killed_training_pod_goes_on_from_its_checkpoint(cluster: Installation, namespace: str) -> None:
    kubectl = cluster.kubectl
    kubectl.apply(config_map_of("comments", SAMPLE_DATASET), namespace)
    kubectl.apply(model_that_only_trains(cluster), namespace)

    def past_a_checkpoint() -> Manifest | None:
        model = get_model(cluster, NAME, namespace)
        training = status_of(model).training
        progress = training.progress if training else None
        return model if progress and progress.step > CHECKPOINT_STEPS else None

    half_way = wait_until("the status tells a step past a checkpoint", past_a_checkpoint, HALF_WAY_SECONDS)
    assert condition(half_way, ConditionType.TRAINED)["message"].startswith("step ")
    (job,) = jobs(kubectl, namespace, "train")
    (pod,) = pods_of(kubectl, job)
    kubectl.run("delete", "pod", pod["metadata"]["name"], "-n", namespace, "--grace-period=0", "--force")

    def trained() -> Manifest | None:
        model = get_model(cluster, NAME, namespace)
        return model if condition(model, ConditionType.TRAINED).get("status") in ("True", "False") else None

    model = wait_until("the training has ended", trained, TRAINED_SECONDS)
    assert condition(model, ConditionType.TRAINED)["status"] == "True", condition(model, ConditionType.TRAINED)
    training = status_of(model).training
    assert training is not None
    assert training.progress is None
    (same_job,) = jobs(kubectl, namespace, "train")
    assert same_job["metadata"]["uid"] == job["metadata"]["uid"]
    (successor,) = pods_of(kubectl, job)
    assert successor["metadata"]["uid"] != pod["metadata"]["uid"]
    log = kubectl.run("logs", successor["metadata"]["name"], "-n", namespace, "-c", "train")
    assert "resuming from checkpoint-" in log
