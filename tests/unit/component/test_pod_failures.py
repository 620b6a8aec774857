"""Pods that the cluster stops, rejects or cannot start."""

from __future__ import annotations

from support.builders import NOW, a_model
from support.operator.pipeline import conditions, drive, message, settle, status

DEPLOYMENT = ("Deployment", "ru-toxicity-serve")


EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}


def test_evicted_pod_that_lingers_is_neither_trouble_nor_the_reason_of_a_later_roll_back() -> None:
    model = a_model()
    cluster = drive(model)
    before = message(cluster, "Available"), message(cluster, "Ready")
    cluster.put_serving_pod("evicted", EVICTED)
    writes = cluster.writes
    settle(cluster)
    assert (message(cluster, "Available"), message(cluster, "Ready")) == before
    assert cluster.writes == writes
    cluster.change_spec(model.with_spec("serving.maxNumSeqs", 8).spec)
    settle(cluster)
    cluster.stall()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert status(cluster)["serving"]["failedMessage"] == "late"


def test_roll_back_is_explained_by_the_pods_of_the_version_that_failed() -> None:
    model = a_model()
    cluster = drive(model)
    crashed = {"name": "serve", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    cluster.put_serving_pod("a-old", {"containerStatuses": [crashed]})
    cluster.change_spec(model.with_spec("serving.maxNumSeqs", 8).spec)
    settle(cluster)
    pulls = {"name": "serve", "ready": False, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    cluster.put_serving_pod("b-new", {"containerStatuses": [pulls]})
    cluster.stall()
    settle(cluster)
    told = status(cluster)["serving"]["failedMessage"]
    assert "b-new" in told and "ImagePullBackOff" in told


def test_pods_that_a_quota_refuses_are_told() -> None:
    cluster = drive(a_model(), 3)
    refused = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": 'pods "ru-toxicity-serve-7d" is forbidden: exceeded quota: gpu, used: 4, limited: 4',
    }
    cluster.objects[DEPLOYMENT]["status"] = {"observedGeneration": 1, "conditions": [refused]}
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "WaitingForCapacity")
    assert "exceeded quota: gpu" in message(cluster, "Ready")
    assert "exceeded quota: gpu" in message(cluster, "Available")


def test_job_whose_pods_are_refused_says_where_to_look() -> None:
    cluster = drive(a_model(), 0)
    job = cluster.job("train")
    job["status"] = {"startTime": "2030-01-01T00:00:00Z"}
    settle(cluster)
    assert f"kubectl describe job {job['metadata']['name']}" in message(cluster, "Trained")


SCHEDULED = {"type": "PodScheduled", "status": "True"}
NO_SANDBOX = {"type": "PodReadyToStartContainers", "status": "False"}
SANDBOX = {"type": "PodReadyToStartContainers", "status": "True"}


def test_healthy_start_of_a_job_costs_two_writes_and_no_event() -> None:
    cluster = drive(a_model(), 0)
    writes, events = cluster.writes, list(cluster.events)
    cluster.job("train")["status"] = {"startTime": "2030-01-01T00:00:00Z", "active": 1}
    settle(cluster)  # its controller has made a pod, of which nothing is known yet; the start time is written
    assert cluster.writes == writes + 1
    cluster.leave_pod_pending("train", "")
    pod = cluster.objects["Pod", cluster.names_of("Pod")[0]]["status"]
    creating, running = {"waiting": {"reason": "ContainerCreating"}}, {"running": {"startedAt": NOW}}
    for sandbox, state in ((NO_SANDBOX, creating), (SANDBOX, creating), (SANDBOX, running)):
        pod["conditions"] = [SCHEDULED, sandbox]
        pod["containerStatuses"][0]["state"] = state
        cluster.logs[cluster.names_of("Pod")[0]] = []
        settle(cluster)
        assert ("kubectl describe pod" in message(cluster, "Trained")) == (sandbox is NO_SANDBOX)
    assert (cluster.writes, cluster.events) == (writes + 3, events)
