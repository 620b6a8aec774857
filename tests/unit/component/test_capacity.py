"""A version or a stage that waits for capacity or for a volume is not marked as failed, and continues later.

The messages are those of kube-scheduler, the attach-detach controller, the kubelet and the quota admission.
"""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import NOW, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, fingerprint_of, message, run, settle, status
from toxicity_operator import names

LONG_AGO, RECENTLY = "2029-12-31T23:00:00Z", "2029-12-31T23:59:00Z"
"""Longer ago than the progress deadline of 900 s, and shorter."""

SERVE = ("Deployment", "ru-toxicity-serve")
CREATING = [{"name": "serve", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}]
STARTING = [{"name": "serve", "ready": False, "started": False, "state": {"running": {"startedAt": RECENTLY}}}]

FULL = (
    "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod affinity rules. preemption: 0/2 nodes are"
    " available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
)
ELSEWHERE = (
    "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod affinity"
    " rules. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
)
DRAINED = "0/2 nodes are available: 1 node(s) didn't match pod affinity rules, 1 node(s) were unschedulable."
MULTI_ATTACH = (
    'Multi-Attach error for volume "pvc-3f2a" Volume is already used by pod(s) ru-toxicity-serve-7d9c-x2x4v'
)
UNATTACHED = (
    "Unable to attach or mount volumes: unmounted volumes=[artifacts], unattached volumes=[], failed to process"
    " volumes=[]: context deadline exceeded"
)
NO_CONFIG_MAP = 'MountVolume.SetUp failed for volume "settings" : configmap "settings" not found'
SELECTOR = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
TAINT = "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}."


def unplaced(words: str, reason: str = "Unschedulable") -> dict[str, Any]:
    told = {"type": "PodScheduled", "status": "False", "reason": reason, "message": words}
    return {"phase": "Pending", "conditions": [{**told, "lastTransitionTime": LONG_AGO}]}


def placed(since: str = LONG_AGO, started: str = "") -> dict[str, Any]:
    """A pod on a node: its containers are created, or run since `started`."""
    sandbox = {"type": "PodReadyToStartContainers", "status": "True" if started else "False"}
    told = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": since},
        {**sandbox, "lastTransitionTime": started or since},
        {"type": "Ready", "status": "False", "lastTransitionTime": since},
    ]
    return {"phase": "Pending", "conditions": told, "containerStatuses": STARTING if started else CREATING}


def warned(cluster: FakeCluster, uid: str, reason: str, words: str) -> None:
    event = {"type": "Warning", "reason": reason, "message": words, "lastTimestamp": NOW}
    cluster.told.setdefault(uid, []).append(event)


def rolling_out(pod: dict[str, Any]) -> tuple[FakeCluster, str, str]:
    """A second version with one pod that is not ready when the deadline has passed, the good version and that one."""
    cluster = drive(a_model())
    good = fingerprint_of(cluster)
    cluster.change_spec(a_model().with_spec("serving.maxNumSeqs", 32).spec)
    settle(cluster)
    cluster.put_serving_pod("serve-new", pod)
    cluster.stall()
    return cluster, good, fingerprint_of(cluster)


@pytest.mark.parametrize("words", [FULL, ELSEWHERE, DRAINED, "no nodes available to schedule pods"])
def test_version_without_a_node_waits(words: str) -> None:
    cluster, good, new = rolling_out(unplaced(words))
    settle(cluster)
    assert fingerprint_of(cluster) == new != good
    assert "failedFingerprint" not in status(cluster)["serving"]
    assert conditions(cluster)["Ready"] == ("False", "WaitingForCapacity")
    assert conditions(cluster)["Stalled"][0] == "False"
    assert words.split(".")[0] in message(cluster, "Ready")


@pytest.mark.parametrize("words", [FULL, ELSEWHERE])
def test_wait_for_the_node_of_the_volume_names_what_to_do(words: str) -> None:
    cluster, _, _ = rolling_out(unplaced(words))
    settle(cluster)
    for remedy in (
        "free resources on the node",
        "ReadWriteMany volume or storage.objectStore",
    ):
        assert remedy in message(cluster, "Ready")


@pytest.mark.parametrize(("reason", "words"), [("FailedAttachVolume", MULTI_ATTACH), ("FailedMount", UNATTACHED)])
def test_version_whose_volume_cannot_attach_waits(reason: str, words: str) -> None:
    cluster, good, new = rolling_out(placed())
    warned(cluster, "uid-of-pod-serve-new", reason, words)
    settle(cluster)
    assert fingerprint_of(cluster) == new != good
    assert conditions(cluster)["Ready"] == ("False", "WaitingForCapacity")
    assert "ReadWriteMany" in message(cluster, "Ready")


def test_version_whose_pods_exceed_the_quota_waits() -> None:
    cluster, good, _ = rolling_out(unplaced(FULL))
    cluster.remove("Pod")
    words = 'pods "x" is forbidden: exceeded quota: team, requested: cpu=2, used: cpu=4, limited: cpu=5'
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
    cluster.objects[SERVE]["status"]["conditions"].append(refused)
    settle(cluster)
    assert fingerprint_of(cluster) != good
    assert conditions(cluster)["Ready"] == ("False", "WaitingForCapacity")
    assert "raise the ResourceQuota team" in message(cluster, "Ready")


def test_version_goes_on_when_capacity_returns_long_after_the_deadline() -> None:
    cluster, good, new = rolling_out(unplaced(FULL))
    settle(cluster)
    cluster.put_serving_pod("serve-new", placed(since=RECENTLY))
    settle(cluster)
    assert fingerprint_of(cluster) == new, "the volume attaches"
    cluster.put_serving_pod("serve-new", placed(since=LONG_AGO, started=RECENTLY))
    settle(cluster)
    assert fingerprint_of(cluster) == new, "the model loads"
    cluster.remove("Pod")
    cluster.roll_out()
    settle(cluster)
    assert status(cluster)["serving"]["goodFingerprint"] == new != good


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(unplaced(SELECTOR), id="node selector"),
        pytest.param(unplaced(TAINT), id="taint"),
        pytest.param(placed(started=LONG_AGO), id="slow start"),
    ],
)
def test_version_that_cannot_start_for_another_reason_is_rolled_back(pod: dict[str, Any]) -> None:
    cluster, good, _ = rolling_out(pod)
    settle(cluster)
    assert fingerprint_of(cluster) == good
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")


def test_version_whose_configmap_is_missing_is_rolled_back() -> None:
    cluster, good, _ = rolling_out(placed())
    warned(cluster, "uid-of-pod-serve-new", "FailedMount", NO_CONFIG_MAP)
    settle(cluster)
    assert (fingerprint_of(cluster), conditions(cluster)["Ready"][1]) == (good, "RolledBack")


def exceed_deadline(cluster: FakeCluster, component: str) -> None:
    """The Job controller ends the Job and deletes its pods, also those that never ran."""
    cluster.remove("Pod")
    end = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "Job was active longer"}
    cluster.job(component)["status"] = {"startTime": NOW, "conditions": [end | {"lastTransitionTime": NOW}]}


def test_stage_that_waited_for_a_node_until_its_deadline_runs_again() -> None:
    cluster = FakeCluster(a_model().raw())
    settle(cluster)
    first = cluster.job("train")["metadata"]["uid"]
    cluster.leave_pod_pending("train", FULL)
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("Unknown", "WaitingForCapacity")
    exceed_deadline(cluster, "train")
    settle(cluster)
    assert cluster.job("train")["metadata"]["uid"] != first
    assert conditions(cluster)["Trained"][0] == "Unknown"


def test_stage_that_ran_until_its_deadline_has_failed() -> None:
    cluster = FakeCluster(a_model().raw())
    settle(cluster)
    cluster.run_pod("train")
    settle(cluster)
    exceed_deadline(cluster, "train")
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("False", "DeadlineExceeded")


def test_wait_of_a_stage_ends_with_its_reason() -> None:
    cluster = FakeCluster(a_model().raw())
    settle(cluster)
    cluster.leave_pod_pending("train", FULL)
    run(cluster)
    cluster.remove("Pod")
    cluster.run_pod("train")
    run(cluster)
    assert conditions(cluster)["Trained"] == ("Unknown", "Running")
    assert names.TRAIN in message(cluster, "Trained")
