"""Messages of Events reach the conditions, and Events are read only where nothing else explains a wait."""

from __future__ import annotations

from support.builders import NOW, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, run, settle
from toxicity_operator.errors import ClusterError

QUOTA = 'Error creating: pods "x-1" is forbidden: exceeded quota: team, requested: limits.memory=8Gi'


def refuse_pods(cluster: FakeCluster) -> str:
    """Record the Event of a Job controller that cannot create a pod. Return the uid of the Job."""
    job = cluster.job("train")
    job["status"] = {"startTime": NOW}
    uid = str(job["metadata"]["uid"])
    cluster.told[uid] = [{"type": "Warning", "reason": "FailedCreate", "message": QUOTA, "lastTimestamp": NOW}]
    return uid


def test_refused_pods_of_a_job_are_explained_by_its_events() -> None:
    cluster = drive(a_model(), 0)
    refuse_pods(cluster)
    settle(cluster)
    for kind in ("Trained", "Ready"):
        assert "the pod is forbidden: exceeded quota: team" in message(cluster, kind)
        assert "lower training.resources, or raise the ResourceQuota team" in message(cluster, kind)


def test_events_that_cannot_be_read_fail_nothing() -> None:
    cluster = drive(a_model(), 0)
    refuse_pods(cluster)
    cluster.event_failure = ClusterError("forbidden", 403)
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("Unknown", "Running")
    assert "kubectl describe job" in message(cluster, "Trained")


def test_pod_whose_volume_fails_is_explained_by_its_events_and_looked_at_again_soon() -> None:
    cluster = drive(a_model(), 0)
    cluster.leave_pod_pending("train", "")
    pod = cluster.objects["Pod", cluster.names_of("Pod")[0]]
    pod["metadata"]["uid"], pod["status"]["phase"] = "pod-uid", "Pending"
    pod["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"},
        {"type": "PodReadyToStartContainers", "status": "False"},
    ]
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ContainerCreating"}}
    cluster.told["pod-uid"] = [
        {"type": "Warning", "reason": "FailedMount", "message": 'configmap "data" not found'}
    ]
    assert run(cluster, "2030-01-01T00:00:01Z").is_settling
    assert cluster.asked_for_events == []
    assert run(cluster, "2030-01-01T00:00:11Z").is_settling
    assert cluster.asked_for_events == ["pod-uid"]
    assert not run(cluster, "2030-01-01T00:00:21Z").is_settling
    assert "create the ConfigMap data, or correct dataset.configMap.name" in message(cluster, "Trained")


def test_undisturbed_run_asks_for_no_events() -> None:
    assert drive(a_model()).asked_for_events == []
