"""Why a pod is missing, does not start or is stopped, read from raw objects as Kubernetes writes them."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import NOW
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.deployment import DeploymentState
from toxicity_operator.observe.jobs import JobState
from toxicity_operator.observe.pods import pod_trouble
from toxicity_operator.observe.state import from_objects

SCHEDULED = {"type": "PodScheduled", "status": "True"}
NO_SANDBOX = {"type": "PodReadyToStartContainers", "status": "False"}
SANDBOX = {"type": "PodReadyToStartContainers", "status": "True"}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
RUNNING = {"running": {"startedAt": NOW}}
KILLED = {"terminated": {"exitCode": 137, "reason": "Error"}}


def disrupted(reason: str, message: str, status: str = "True") -> Raw:
    return {"type": "DisruptionTarget", "status": status, "reason": reason, "message": message}


PREEMPTED = disrupted(
    "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod"
)
TAINTED = disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
DRAINED = disrupted("EvictionByEvictionAPI", "Eviction API: evicting")
SHUT_DOWN = disrupted("TerminationByKubelet", "Pod was terminated in response to imminent node shutdown.")
SAID = "Pod was terminated in response to imminent node shutdown."
NO_DEVICE = "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate nvidia.com/gpu"


def a_status(phase: str, state: Raw, *conditions: Raw, **more: Any) -> Raw:
    """The status of a pod with one container."""
    container = {"name": "main", "ready": "running" in state, "state": state}
    return {"phase": phase, "conditions": list(conditions), "containerStatuses": [container], **more}


def a_pod(status: Raw, *, owner: str = "job-uid", component: str = "train", version: str = "new") -> Raw:
    metadata = {
        "name": "pod-x",
        "labels": names.labels("m", component),
        "annotations": {names.SERVING_FINGERPRINT: version},
        "ownerReferences": [{"uid": owner}],
    }
    return {"kind": "Pod", "metadata": metadata, "status": status}


STOPPED = [
    pytest.param(a_status("Failed", KILLED, PREEMPTED), "was stopped", "higher priority pod", id="preempted"),
    pytest.param(a_status("Running", RUNNING, TAINTED), "is being stopped", "NoExecute taint", id="node lost"),
    pytest.param(a_status("Running", RUNNING, DRAINED), "is being stopped", "EvictionByEvictionAPI", id="drained"),
    pytest.param(a_status("Failed", KILLED, SHUT_DOWN), "was stopped", "node shutdown", id="shutdown, condition"),
    pytest.param(
        a_status("Failed", KILLED, reason="Terminated", message=SAID),
        "was stopped",
        "node shutdown",
        id="shutdown",
    ),
    pytest.param(
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
        "was stopped",
        "Evicted",
        id="evicted",
    ),
    pytest.param(
        {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": NO_DEVICE},
        "was stopped",
        "no healthy devices",
        id="refused by the kubelet",
    ),
]


@pytest.mark.parametrize(("status", "words", "cause"), STOPPED)
def test_pod_that_the_cluster_stops_does_not_look_like_a_crash(status: Raw, words: str, cause: str) -> None:
    told = pod_trouble(a_pod(status))
    assert told.startswith(f"pod pod-x {words} by the cluster (") and cause in told
    assert "137" not in told


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(a_status("Running", RUNNING, PREEMPTED | {"status": "False"}), id="preemption called off"),
        pytest.param(a_status("Succeeded", {"terminated": {"exitCode": 0}}, DRAINED), id="ended before it was"),
        pytest.param(a_status("Running", RUNNING, SCHEDULED, SANDBOX), id="runs"),
    ],
)
def test_pod_that_was_spared_is_no_trouble(status: Raw) -> None:
    assert pod_trouble(a_pod(status)) == ""


def read_job(job_status: Raw, *pods: Raw) -> JobState:
    metadata = {"name": "m-train-1", "uid": "job-uid", "labels": names.labels("m", "train")}
    (job,) = from_objects([{"kind": "Job", "metadata": metadata, "status": job_status}, *pods]).jobs
    return job


INIT_WAITS = {
    "phase": "Pending",
    "conditions": [SCHEDULED, NO_SANDBOX],
    "initContainerStatuses": [{"name": "dataset", "state": {"waiting": {"reason": "PodInitializing"}}}],
    "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "PodInitializing"}}}],
}
STARTED = {"startTime": NOW, "active": 1}
WITHOUT_PODS = {"startTime": NOW}


@pytest.mark.parametrize(
    ("job_status", "pods", "words"),
    [
        pytest.param(WITHOUT_PODS, [], "has no pod yet; see kubectl describe job m-train-1", id="pods refused"),
        pytest.param(WITHOUT_PODS | {"active": 0, "failed": 1}, [], "has no pod yet", id="and lost one"),
        pytest.param(
            STARTED,
            [a_pod(a_status("Pending", CREATING, SCHEDULED, NO_SANDBOX))],
            "kubectl describe pod pod-x",
            id="volumes",
        ),
        pytest.param(STARTED, [a_pod(INIT_WAITS)], "kubectl describe pod pod-x", id="volumes, init containers"),
        pytest.param(STARTED, [a_pod(a_status("Running", RUNNING, TAINTED))], "NoExecute", id="node lost"),
    ],
)
def test_running_job_says_why_nothing_runs(job_status: Raw, pods: list[Raw], words: str) -> None:
    job = read_job(job_status, *pods)
    assert job.outcome == "Running" and words in job.message


@pytest.mark.parametrize(
    ("job_status", "pods"),
    [
        pytest.param({}, [], id="not looked at by its controller"),
        pytest.param(STARTED, [], id="its pod is not in the mirror yet"),
        pytest.param(WITHOUT_PODS | {"conditions": [{"type": "Suspended", "status": "True"}]}, [], id="suspended"),
        pytest.param(
            WITHOUT_PODS | {"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}, [], id="done"
        ),
        pytest.param(
            STARTED, [a_pod(a_status("Pending", CREATING, SCHEDULED, SANDBOX))], id="the image is being pulled"
        ),
        pytest.param(STARTED, [a_pod(a_status("Pending", CREATING, SCHEDULED))], id="kubelet before 1.29"),
        pytest.param(
            STARTED, [a_pod(a_status("Running", RUNNING, SCHEDULED, NO_SANDBOX))], id="runs all the same"
        ),
        pytest.param(
            {"startTime": NOW, "succeeded": 1},
            [a_pod(a_status("Succeeded", {"terminated": {"exitCode": 0}}, SCHEDULED, NO_SANDBOX))],
            id="pod ended well",
        ),
    ],
)
def test_running_job_of_which_nothing_is_to_be_said_says_nothing(job_status: Raw, pods: list[Raw]) -> None:
    assert read_job(job_status, *pods).message == ""


def test_failed_job_tells_that_its_pod_was_preempted() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "no more tries"}
    job = read_job({"startTime": NOW, "conditions": [failed]}, a_pod(a_status("Failed", KILLED, PREEMPTED)))
    assert job.reason == "JobFailed" and "PreemptionByScheduler" in job.message


QUOTA = 'pods "m-serve-7d" is forbidden: exceeded quota: gpu, requested: requests.nvidia.com/gpu=1, used: 4'
REFUSED = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": QUOTA}
LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
ON_TIME = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetCreated"}
CRASHED = a_status("Running", {"waiting": {"reason": "CrashLoopBackOff"}}, SCHEDULED, SANDBOX)
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}
READY = a_status("Running", RUNNING, SCHEDULED, SANDBOX)
STARTING = a_status("Pending", CREATING, SCHEDULED, NO_SANDBOX)


def serving(status: Raw, version: str = "new") -> Raw:
    return a_pod(status, owner="rs-uid", component=names.SERVE, version=version)


def read_deployment(conditions: list[Raw], *pods: Raw, seen: bool = True) -> DeploymentState:
    metadata = {"name": "m-serve", "generation": 2, "annotations": {names.SERVING_FINGERPRINT: "new"}}
    status = {"observedGeneration": 2 if seen else 1, "conditions": conditions}
    state = from_objects(
        [{"kind": "Deployment", "metadata": metadata, "spec": {"template": {}}, "status": status}, *pods]
    ).deployment
    assert state is not None
    return state


@pytest.mark.parametrize(
    ("conditions", "pods", "words"),
    [
        pytest.param([ON_TIME, REFUSED], [], "exceeded quota: gpu", id="quota"),
        pytest.param(
            [ON_TIME, REFUSED], [serving(READY, "old")], "FailedCreate", id="quota beside the old version"
        ),
        pytest.param([ON_TIME, REFUSED], [serving(CRASHED)], "CrashLoopBackOff", id="a pod says more"),
        pytest.param(
            [ON_TIME], [serving(a_status("Running", RUNNING, DRAINED))], "EvictionByEvictionAPI", id="drain"
        ),
    ],
)
def test_deployment_says_why_its_pods_do_not_come(conditions: list[Raw], pods: list[Raw], words: str) -> None:
    assert words in read_deployment(conditions, *pods).trouble


@pytest.mark.parametrize(
    ("conditions", "pods"),
    [
        pytest.param([ON_TIME, REFUSED | {"status": "False"}], [], id="quota raised"),
        pytest.param([ON_TIME], [serving(READY), serving(EVICTED)], id="corpse of an evicted pod"),
        pytest.param([ON_TIME], [serving(READY), serving(a_status("Succeeded", KILLED))], id="corpse that ended"),
        pytest.param([ON_TIME], [serving(STARTING)], id="healthy start"),
    ],
)
def test_deployment_in_order_has_no_trouble(conditions: list[Raw], pods: list[Raw]) -> None:
    assert read_deployment(conditions, *pods).trouble == ""


def test_deployment_says_what_a_starting_pod_waits_for_without_calling_it_trouble() -> None:
    assert "kubectl describe pod pod-x" in read_deployment([ON_TIME], serving(STARTING)).waits_for
    assert read_deployment([ON_TIME], serving(READY)).waits_for == ""


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        pytest.param([serving(CRASHED, "old")], "timed out", id="old pod in trouble"),
        pytest.param([serving(EVICTED)], "timed out", id="corpse"),
        pytest.param(
            [serving(EVICTED, "old"), serving(READY, "old")], "timed out", id="corpse of the old version"
        ),
        pytest.param(
            [serving(CRASHED, "old"), serving(a_status("Running", KILLED))],
            "exit code 137",
            id="the new pod's words",
        ),
        pytest.param([serving(CRASHED, "old"), serving(STARTING)], "kubectl describe pod pod-x", id="volumes"),
    ],
)
def test_failed_roll_out_is_explained_by_the_failed_version_alone(pods: list[Raw], words: str) -> None:
    assert words in read_deployment([LATE], *pods).failure


def test_failed_roll_out_whose_pods_were_refused_says_by_what() -> None:
    words = 'pods "m-serve-7d" is forbidden: violates PodSecurity "restricted:latest": seccompProfile'
    insecure = {**REFUSED, "message": words}
    assert "violates PodSecurity" in read_deployment([LATE, insecure], serving(CRASHED, "old")).failure
    assert read_deployment([LATE, insecure], seen=False).failure == ""
    assert read_deployment([LATE, REFUSED], serving(CRASHED, "old")).failure == "", "a quota is lack of capacity"
