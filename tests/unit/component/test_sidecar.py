"""A stage that has ended while a sidecar keeps its pod and its Job running."""

from __future__ import annotations

import pytest

from support.builders import NOW, a_model, training_result
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, run, settle, status, take_steps
from toxicity_operator import names
from toxicity_operator.errors import ClusterError


def end_beside_sidecar(cluster: FakeCluster, component: str, code: int, said: str, name: str = "mesh-pod") -> str:
    """Terminate the stage container while a sidecar keeps running. Return the name of the unfinished Job."""
    job = cluster.job(component)
    job["status"] = {"startTime": NOW, "active": 1}
    owner = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
    metadata = {
        "name": name,
        "uid": f"uid-of-{name}",
        "labels": job["metadata"]["labels"],
        "ownerReferences": [owner],
    }
    ended = {"exitCode": code, "reason": "Completed", "message": said, "finishedAt": NOW}
    statuses = [
        {"name": "mesh", "ready": True, "state": {"running": {"startedAt": NOW}}},
        {"name": component, "ready": False, "state": {"terminated": ended}},
    ]
    pod = {"kind": "Pod", "metadata": metadata, "status": {"phase": "Running", "containerStatuses": statuses}}
    cluster.objects["Pod", name] = pod
    return str(job["metadata"]["name"])


def fingerprint(cluster: FakeCluster, component: str) -> str:
    found: str = cluster.job(component)["metadata"]["labels"][names.FINGERPRINT_LABEL]
    return found


def test_stage_beside_a_sidecar_is_done_and_its_job_goes_once_that_is_recorded() -> None:
    cluster = drive(a_model(), 0)
    said = training_result(fingerprint(cluster, "train"), 0.87).to_termination_message()
    job = end_beside_sidecar(cluster, "train", 0, said)
    cluster.writes_until_failure = 1  # the next stage's Job is made, and the status is not written
    with pytest.raises(ClusterError):
        run(cluster)
    assert job in cluster.names_of("Job")
    cluster.writes_until_failure = None
    run(cluster)
    assert status(cluster)["training"]["f1"] == 0.87
    assert conditions(cluster)["Trained"] == ("True", "Succeeded")
    assert cluster.job("quantize")
    settle(cluster)
    assert job not in cluster.names_of("Job")
    take_steps(cluster, 0)
    assert status(cluster)["training"]["outcome"] == "Succeeded"
    assert [kind for kind, name in cluster.ever_created if name.startswith("ru-toxicity-train-")] == ["Job"]


def test_load_test_beside_a_sidecar_is_done() -> None:
    cluster = drive(a_model(), 4)
    assert cluster.model is not None
    cluster.model["status"]["loadTest"] = cluster.load_test_figures("Complete")
    job = end_beside_sidecar(cluster, "loadtest", 0, "")
    settle(cluster)
    assert conditions(cluster)["LoadTested"] == ("True", "Succeeded")
    assert job not in cluster.names_of("Job")


def test_refused_evaluation_beside_a_sidecar_is_recorded_before_its_job_goes() -> None:
    cluster = drive(a_model().with_spec("qualityGate.minF1", 0.8), 2)
    mark = fingerprint(cluster, "evaluate")
    cluster.finish_evaluation(f1=0.3)
    (pod,) = (item for (kind, name), item in cluster.objects.items() if kind == "Pod" and "-evaluate-" in name)
    said = pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
    (done,) = (item for (kind, name), item in cluster.objects.items() if kind == "Job" and "-evaluate-" in name)
    del done["status"], cluster.objects["Pod", pod["metadata"]["name"]]
    job = end_beside_sidecar(cluster, "evaluate", 0, said)
    run(cluster)
    assert (status(cluster)["evaluation"]["fingerprint"], status(cluster)["evaluation"]["f1"]) == (mark, 0.3)
    assert conditions(cluster)["QualityAccepted"][0] == "False"
    settle(cluster)
    assert job not in cluster.names_of("Job")


def test_job_of_an_earlier_spec_that_a_sidecar_keeps_is_removed() -> None:
    model = a_model()
    cluster = drive(model, 0)
    said = training_result(fingerprint(cluster, "train")).to_termination_message()
    job = end_beside_sidecar(cluster, "train", 0, said)
    cluster.change_spec(model.with_spec("training.learningRate", 1e-5).spec)
    settle(cluster)
    assert job not in cluster.names_of("Job")


def test_stage_that_failed_for_good_beside_a_sidecar_has_failed() -> None:
    cluster = drive(a_model(), 0)
    result = training_result(fingerprint(cluster, "train"))
    refused = {"outcome": "failed", "reason": "EmptyText", "message": "row 7 is empty", "training": None}
    job = end_beside_sidecar(cluster, "train", 42, result.model_copy(update=refused).to_termination_message())
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("False", "EmptyText")
    assert message(cluster, "Trained") == "row 7 is empty"
    assert job not in cluster.names_of("Job")


def test_stage_that_may_be_tried_again_beside_a_sidecar_says_how() -> None:
    cluster = drive(a_model(), 0)
    job = end_beside_sidecar(cluster, "train", 1, "boom")
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("Unknown", "Running")
    assert "kubectl delete pod mesh-pod" in message(cluster, "Trained")
    assert job in cluster.names_of("Job")
