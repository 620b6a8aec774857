"""One small model brought to Ready, its operator killed while it trained: what several modules look at and change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from support.e2e.scenario import (
    children,
    config_map_of,
    counted_requests,
    jobs,
    pods_of,
    serving_pods,
    small_model,
)
from toxicity_cluster.demo_install import OPERATOR_NAMESPACE, SAMPLE_DATASET, Installation
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, wait_until
from toxicity_cluster.demo_watch import Watcher

NAME = "loop"
TRAINING_STARTS_SECONDS = 300
READY_SECONDS = 35 * 60


@dataclass(frozen=True)
class Finished:
    """The resource when it became Ready, what it owned then, and who was killed on the way."""

    model: Manifest
    children: dict[str, tuple[str, int]]
    killed_pods: Sequence[str]
    first_training_job: str
    counted: int

    @property
    def namespace(self) -> str:
        namespace: str = self.model["metadata"]["namespace"]
        return namespace


def bring_to_ready(cluster: Installation, namespace: str) -> Finished:
    """Applies the model, kills the operator while it trains, and follows the model to its end."""
    kubectl = cluster.kubectl
    kubectl.apply(config_map_of("comments", SAMPLE_DATASET), namespace)
    kubectl.apply(small_model(NAME, "comments", cluster.images), namespace)
    job = wait_until(
        "the training pod runs", lambda: running_training_job(kubectl, namespace), TRAINING_STARTS_SECONDS
    )
    killed = kill_operator(kubectl)
    model = Watcher(kubectl, namespace, say=print).follow(NAME, READY_SECONDS)
    counted = counted_requests(kubectl, serving_pods(kubectl, model))
    return Finished(model, children(kubectl, model), killed, job["metadata"]["uid"], counted)


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
