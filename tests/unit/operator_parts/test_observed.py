"""The state that is read from Jobs and pods, especially after failures."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import NOW, training_result
from toxicity_operator import names
from toxicity_operator.observe.jobs import JobState
from toxicity_operator.observe.state import from_objects


def a_job(*conditions: dict[str, str]) -> dict[str, Any]:
    labels = {**names.labels("m", "train"), names.FINGERPRINT_LABEL: "fp"}
    metadata = {"name": "m-train-1", "uid": "job-uid", "labels": labels}
    status = {"startTime": NOW, "conditions": list(conditions)}
    return {"kind": "Job", "metadata": metadata, "status": status}


def a_pod(created: int, owner: str = "job-uid", **status: Any) -> dict[str, Any]:
    metadata = {
        "name": f"pod-{created}",
        "creationTimestamp": f"2030-01-01T00:00:{created:02}Z",
        "ownerReferences": [{"uid": owner}],
        "labels": names.labels("m", "train"),
    }
    return {"kind": "Pod", "metadata": metadata, "status": status}


def ended(name: str, code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"name": name, "state": {"terminated": {"exitCode": code, "reason": reason, "message": message}}}


COMPLETE = {"type": "Complete", "status": "True"}
FAILED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "no more tries"}
DEADLINE = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "was active too long"}


def read(*objects: dict[str, Any]) -> JobState:
    (job,) = from_objects(objects).jobs
    return job


def test_result_of_the_pod_that_succeeded_counts_not_that_of_one_that_failed_later() -> None:
    good = training_result("fp")
    failed = good.model_copy(update={"outcome": "failed", "training": None})
    job = read(
        a_job(COMPLETE),
        a_pod(1, containerStatuses=[ended("train", 0, good.to_termination_message(), "Completed")]),
        a_pod(2, containerStatuses=[ended("train", 1, failed.to_termination_message())]),
    )
    assert (job.outcome, job.result) == ("Succeeded", good)


def test_pod_of_another_job_does_not_speak() -> None:
    pod = a_pod(
        1, owner="other", containerStatuses=[ended("train", 0, training_result("fp").to_termination_message())]
    )
    assert read(a_job(COMPLETE), pod).result is None


def test_newest_pod_explains_the_failure() -> None:
    job = read(
        a_job(FAILED),
        a_pod(1, containerStatuses=[ended("train", 1, "old")]),
        a_pod(2, containerStatuses=[ended("train", 137, reason="OOMKilled")]),
    )
    assert (job.reason, job.outcome) == ("JobFailed", "Failed")
    assert "pod-2" in job.message and "OOMKilled" in job.message and "137" in job.message


def test_failed_init_container_is_named_with_the_end_of_its_log() -> None:
    pod = a_pod(1, initContainerStatuses=[ended("dataset", 1, "x" * 5000 + "no such file")])
    job = read(a_job(FAILED), pod)
    assert "init container dataset" in job.message and job.message.endswith("no such file")
    assert len(job.message) < 1000


POLICY = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "Container dataset failed"}


@pytest.mark.parametrize("container", ["dataset", "base-model"])
def test_source_that_was_refused_is_told_in_the_words_of_the_download(container: str) -> None:
    sentence = "spec.dataset.kaggle: there is no data set a/b, or it has no file 'c.csv'; correct dataset or file"
    done = ended("tools", 0, reason="Completed")
    job = read(a_job(POLICY), a_pod(1, initContainerStatuses=[done, ended(container, 42, f"{sentence}\n")]))
    assert (job.outcome, job.reason, job.message) == ("Failed", "SourceUnusable", sentence)


def test_refusal_of_the_stage_itself_is_not_taken_for_one_of_its_sources() -> None:
    job = read(a_job(POLICY), a_pod(1, containerStatuses=[ended("train", 42, "no document")]))
    assert (job.reason, "container train" in job.message) == ("JobFailed", True)


SIGTERM = training_result("fp").model_copy(
    update={"outcome": "failed", "reason": "Terminated", "message": "ended by SIGTERM", "training": None}
)


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        pytest.param([], "", id="pod gone"),
        pytest.param([a_pod(1, containerStatuses=[ended("train", 143)])], "", id="pod without a document"),
        pytest.param(
            [a_pod(1, containerStatuses=[ended("train", 143, SIGTERM.to_termination_message())])],
            "; the stage reported: ended by SIGTERM",
            id="pod with a document",
        ),
        pytest.param([a_pod(1, phase="Failed", reason="Evicted", message="no memory")], "", id="pod evicted"),
        pytest.param([a_pod(1, initContainerStatuses=[ended("dataset", 42, "no such file")])], "", id="refused"),
    ],
)
@pytest.mark.parametrize(("seconds", "number"), [(3600, " of 3600"), (None, "")])
def test_deadline_is_told_whatever_became_of_the_pods(
    pods: list[dict[str, Any]], said: str, seconds: int | None, number: str
) -> None:
    spec = {} if seconds is None else {"activeDeadlineSeconds": seconds}
    job = read(a_job(DEADLINE) | {"spec": spec}, *pods)
    assert (job.outcome, job.reason) == ("Failed", "DeadlineExceeded")
    told = (
        f"the Job exceeded its activeDeadlineSeconds{number}, which include the wait for a node;"
        " raise that field, or reduce the work of the stage"
    )
    assert job.message == told + said


def test_deadline_is_told_whole_when_the_stage_said_much() -> None:
    talkative = SIGTERM.model_copy(update={"message": "x" * 2000})
    pod = a_pod(1, containerStatuses=[ended("train", 1, talkative.to_termination_message())])
    message = read(a_job(DEADLINE), pod).message
    assert message.startswith("the Job exceeded") and len(message) <= 800


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"containerStatuses": [{"name": "train", "state": {"waiting": {"reason": "ErrImagePull"}}}]},
            "ErrImagePull",
        ),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no gpu"}
                ]
            },
            "no gpu",
        ),
    ],
)
def test_running_job_says_what_it_waits_for(status: dict[str, Any], words: str) -> None:
    job = read(a_job(), a_pod(1, **status))
    assert job.outcome == "Running" and words in job.message


@pytest.mark.parametrize(
    ("words", "lacks"),
    [
        ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: no victims found.", True),
        ("0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu.", True),
        ("0/1 nodes are available: 1 Insufficient cpu.", False),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: }.", False),
    ],
)
def test_job_lacks_a_gpu_when_the_scheduler_says_so(words: str, lacks: bool) -> None:
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    assert read(a_job(), a_pod(1, conditions=[waits])).lacks_gpu is lacks
    assert not read(a_job(), a_pod(1, conditions=[waits | {"status": "True", "reason": ""}])).lacks_gpu


def test_starting_pod_is_no_trouble() -> None:
    waiting = [{"name": "train", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    assert read(a_job(), a_pod(1, containerStatuses=waiting)).message == ""


@pytest.mark.parametrize(
    ("generation", "status", "rolled_out"),
    [
        (2, {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}, True),
        (2, {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}, False),
        (1, {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 2}, False),
        (1, {}, False),
    ],
)
def test_deployment_is_rolled_out_when_no_old_pod_is_left(
    generation: int, status: dict[str, Any], rolled_out: bool
) -> None:
    metadata = {"name": "m-serve", "generation": generation, "annotations": {names.SERVING_FINGERPRINT: "s"}}
    deployment = from_objects(
        [{"kind": "Deployment", "metadata": metadata, "spec": {"template": {}}, "status": status}]
    ).deployment
    assert deployment is not None
    assert (deployment.rolled_out, deployment.serving_fingerprint) == (rolled_out, "s")


def running(name: str) -> dict[str, Any]:
    return {"name": name, "state": {"running": {"startedAt": NOW}}}


@pytest.mark.parametrize(
    ("pods", "name"),
    [
        ([], ""),
        ([a_pod(1, containerStatuses=[running("train")])], "pod-1"),
        ([a_pod(1, containerStatuses=[running("proxy"), running("train")])], "pod-1"),
        (
            [a_pod(1, containerStatuses=[ended("train", 1)]), a_pod(2, containerStatuses=[running("train")])],
            "pod-2",
        ),
        ([a_pod(1, initContainerStatuses=[running("train")])], ""),
        ([a_pod(1, containerStatuses=[{"name": "train", "state": {"waiting": {}}}])], ""),
        ([a_pod(1, owner="other", containerStatuses=[running("train")])], ""),
    ],
)
def test_running_pod_is_the_one_whose_stage_container_runs(pods: list[dict[str, Any]], name: str) -> None:
    assert read(a_job(), *pods).running_pod == name


def test_job_that_has_ended_has_no_running_pod() -> None:
    assert read(a_job(COMPLETE), a_pod(1, containerStatuses=[running("train")])).running_pod == ""


def limited(pod: dict[str, Any], memory: str) -> dict[str, Any]:
    """The pod with a memory limit on its container."""
    return pod | {"spec": {"containers": [{"name": "train", "resources": {"limits": {"memory": memory}}}]}}


def test_pod_out_of_memory_names_its_limit_and_the_field_to_raise() -> None:
    job = read(
        a_job(FAILED), limited(a_pod(1, containerStatuses=[ended("train", 137, reason="OOMKilled")]), "8Gi")
    )
    assert "8Gi" in job.message and "resources.limits.memory" in job.message


def test_evicted_pod_says_why() -> None:
    pod = a_pod(1, phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    job = read(a_job(FAILED), pod)
    assert "Evicted" in job.message and "low on resource: memory" in job.message
