"""One small model brought to Ready, the operator and the training pod killed meanwhile: what several modules look at
and change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from support.e2e.scenario import (
    children,
    config_map_of,
    counted_requests,
    get_model,
    jobs,
    pods_of,
    serving_pods,
    small_model,
)
from toxicity_cluster.demo_install import OPERATOR_NAMESPACE, SAMPLE_DATASET, Installation
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, wait_until
from toxicity_cluster.demo_watch import Watcher, status_of

NAME = "loop"
TRAINING_STARTS_SECONDS = 300
CHECKPOINT_STEPS = 5
CHECKPOINT_SECONDS = 6 * 60
READY_SECONDS = 35 * 60


@dataclass(frozen=True)
class Finished:
    """The resource when it became Ready, what it owned then, and who was killed on the way."""

    model: Manifest
    children: dict[str, tuple[str, int]]
    killed_operators: Sequence[str]
    first_training_job: str
    half_way: Manifest
    """The resource when the training pod was killed."""
    killed_training_pod: str
    counted: int

    @property
    def namespace(self) -> str:
        namespace: str = self.model["metadata"]["namespace"]
        return namespace


def bring_to_ready(cluster: Installation, namespace: str) -> Finished:
    """Applies the model, kills the operator and, after a checkpoint, the training pod, and follows it to its end."""
    kubectl = cluster.kubectl
    kubectl.apply(config_map_of("comments", SAMPLE_DATASET), namespace)
    model = small_model(NAME, "comments", cluster.images)
    model["spec"]["training"] |= {"checkpointSteps": CHECKPOINT_STEPS, "tracking": {"tensorBoard": True}}
    kubectl.apply(model, namespace)
    job = wait_until(
        "the training pod runs", lambda: running_training_job(kubectl, namespace), TRAINING_STARTS_SECONDS
    )
    killed = kill_operator(kubectl)
    half_way = wait_until(
        "the status tells a step past a checkpoint",
        lambda: found if _step(found := get_model(cluster, NAME, namespace)) > CHECKPOINT_STEPS else None,
        CHECKPOINT_SECONDS,
    )
    (pod,) = pods_of(kubectl, job)
    kubectl.run("delete", "pod", pod["metadata"]["name"], "-n", namespace, "--grace-period=0", "--force")
    model = Watcher(kubectl, namespace, say=print).follow(NAME, READY_SECONDS)
    counted = counted_requests(kubectl, serving_pods(kubectl, model))
    return Finished(
        model=model,
        children=children(kubectl, model),
        killed_operators=killed,
        first_training_job=job["metadata"]["uid"],
        half_way=half_way,
        killed_training_pod=pod["metadata"]["uid"],
        counted=counted,
    )


def _step(model: Manifest) -> int:
    """The step that the status of a running training tells; 0 before the first."""
    training = status_of(model).training
    return training.progress.step if training and training.progress else 0


def running_training_job(kubectl: Kubectl, namespace: str) -> Manifest | None:
    """The training Job once the stage's own container runs, that is after the init containers."""
    for job in jobs(kubectl, namespace, "train"):
        for pod in pods_of(kubectl, job):
            if any("running" in s["state"] for s in pod["status"].get("containerStatuses", [])):
                return job
    return None


def kill_operator(kubectl: Kubectl) -> list[str]:
    """Kills every operator pod at once, without a grace period; the names of those that were there."""
    selector = "app.kubernetes.io/component=operator"
    names = [pod["metadata"]["name"] for pod in kubectl.list("pods", OPERATOR_NAMESPACE, selector)]
    assert names, "no operator pod runs"
    kubectl.run(
        "delete", "pod", *names, "-n", OPERATOR_NAMESPACE, "--grace-period=0", "--force", "--ignore-not-found"
    )
    return names
