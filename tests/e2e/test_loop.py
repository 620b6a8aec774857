"""The whole loop on a real cluster, told in order: train (with the operator killed meanwhile), quantize, serve,
load test; then what the service answers, another load test, and the end of the resource."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from scenario import (
    children,
    config_map_of,
    counted_requests,
    get_model,
    jobs,
    pods_of,
    serving_pods,
    small_model,
)
from toxicity_api.conditions import ConditionType
from toxicity_cluster.demo_install import OPERATOR_NAMESPACE, SAMPLE_DATASET, Installation
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, wait_until
from toxicity_cluster.demo_probe import classify
from toxicity_cluster.demo_watch import Watcher, is_done, status_of

pytestmark = pytest.mark.e2e

NAME = "loop"
TRAINING_STARTS_SECONDS = 300
READY_SECONDS = 35 * 60
LOAD_TEST_SECONDS = 10 * 60

# neither stands in the sample data set
CLEARLY_TOXIC = "Заткнись, тупой урод, тошнит от твоей глупости, идиот"
CLEARLY_HARMLESS = "Подскажите, пожалуйста, во сколько завтра открывается бассейн у парка?"


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


@pytest.fixture(scope="module")
def finished(cluster: Installation, module_namespace: str) -> Finished:
    """One model brought to Ready, its operator killed while it trained."""
    kubectl = cluster.kubectl
    kubectl.apply(config_map_of("comments", SAMPLE_DATASET), module_namespace)
    kubectl.apply(small_model(NAME, "comments", cluster.images), module_namespace)
    job = wait_until(
        "the training pod runs", lambda: running_training_job(kubectl, module_namespace), TRAINING_STARTS_SECONDS
    )
    killed = kill_operator(kubectl)
    model = Watcher(kubectl, module_namespace, say=print).follow(NAME, READY_SECONDS)
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
    kubectl.run("delete", "pod", *names, "-n", OPERATOR_NAMESPACE, "--grace-period=0", "--force")
    return names


def test_every_condition_is_true_for_the_present_spec(finished: Finished) -> None:
    conditions = finished.model["status"]["conditions"]
    generation = finished.model["metadata"]["generation"]
    assert {c["type"]: c["status"] for c in conditions} == {str(kind): "True" for kind in ConditionType}
    assert {c["observedGeneration"] for c in conditions} == {generation}
    assert finished.model["status"]["observedGeneration"] == generation


def test_operator_killed_while_training_leaves_one_job_and_one_result(
    cluster: Installation, finished: Finished
) -> None:
    kubectl = cluster.kubectl
    operators = kubectl.list("pods", OPERATOR_NAMESPACE, "app.kubernetes.io/component=operator")
    assert {pod["metadata"]["name"] for pod in operators}.isdisjoint(finished.killed_pods)
    (job,) = jobs(kubectl, finished.namespace, "train")
    assert job["metadata"]["uid"] == finished.first_training_job
    assert job["status"].get("succeeded") == 1
    assert len(pods_of(kubectl, job)) == 1
    listing = kubectl.run("exec", f"deployment/{NAME}-serve", "-n", finished.namespace, "--", "ls", "/artifacts")
    results = [folder for folder in listing.split() if folder.startswith("train-")]
    assert results == [f"train-{finished.model['status']['training']['fingerprint']}"]


def test_figures_are_those_of_a_model_that_learnt(finished: Finished) -> None:
    training = status_of(finished.model).training
    quantization = status_of(finished.model).quantization
    assert training is not None and training.f1 is not None and training.train_samples is not None
    assert training.f1 > 0.5
    assert training.train_samples == 240
    assert quantization is not None and quantization.f1 is not None and quantization.f1_drop is not None
    assert quantization.f1_drop == pytest.approx(training.f1 - quantization.f1, abs=1e-3)
    assert quantization.size_bytes is not None and quantization.original_size_bytes is not None
    assert 0 < quantization.size_bytes < quantization.original_size_bytes


def test_buckets_sum_to_the_requests_that_the_server_counted(finished: Finished) -> None:
    load_test = status_of(finished.model).load_test
    assert load_test is not None
    assert [bucket.name for bucket in load_test.buckets] == ["1-200", "201-400", "401-600"]
    assert all(bucket.requests > 0 and bucket.failures == 0 for bucket in load_test.buckets)
    measured = sum(bucket.requests for bucket in load_test.buckets)
    assert measured + load_test.warmup_requests == finished.counted


def test_service_puts_clear_texts_on_the_right_sides(cluster: Installation, finished: Finished) -> None:
    sample = SAMPLE_DATASET.read_text(encoding="utf-8")
    assert CLEARLY_TOXIC not in sample and CLEARLY_HARMLESS not in sample
    serving = status_of(finished.model).serving
    assert serving is not None
    toxic, harmless = classify(
        cluster.kubectl,
        finished.namespace,
        cluster.images["loadtest"],
        serving.url,
        [CLEARLY_TOXIC, CLEARLY_HARMLESS],
    )
    assert toxic.toxic and not harmless.toxic, (toxic, harmless)
    assert toxic.score > harmless.score


def test_autoscaler_reads_the_metric(cluster: Installation, finished: Finished) -> None:
    def active() -> Manifest | None:
        (autoscaler,) = cluster.kubectl.list("horizontalpodautoscalers", finished.namespace)
        states = {c["type"]: c["status"] for c in autoscaler["status"].get("conditions", [])}
        return autoscaler if states.get("ScalingActive") == "True" else None

    autoscaler = wait_until("the HPA's ScalingActive is True", active, deadline_seconds=180)
    (metric,) = autoscaler["status"]["currentMetrics"]
    assert metric["resource"]["name"] == "cpu"
    assert metric["resource"]["current"]["averageUtilization"] >= 0


def test_changed_run_id_makes_one_load_test_job_and_nothing_else(
    cluster: Installation, finished: Finished
) -> None:
    kubectl = cluster.kubectl
    patch = json.dumps({"spec": {"loadTest": {"runId": "again"}}})
    kubectl.run("patch", "toxicitymodel", NAME, "-n", finished.namespace, "--type=merge", "-p", patch)

    def measured_again() -> Manifest | None:
        model = get_model(cluster, NAME, finished.namespace)
        load_test = status_of(model).load_test
        again = load_test is not None and load_test.run_id == "again" and load_test.state == "Complete"
        return model if again and is_done(model) else None

    model = wait_until("the second load test is complete", measured_again, LOAD_TEST_SECONDS)
    after = children(kubectl, model)
    assert {title: after.get(title) for title in finished.children} == finished.children
    (new,) = set(after) - set(finished.children)
    assert new.startswith(f"Job/{NAME}-loadtest-")


def test_deleted_resource_leaves_no_child(cluster: Installation, finished: Finished) -> None:
    kubectl = cluster.kubectl
    assert len(finished.children) >= 6
    kubectl.delete("toxicitymodel", NAME, finished.namespace)
    uids = {uid for uid, _ in finished.children.values()}

    def gone() -> bool:
        left = kubectl.list(
            "jobs,pods,deployments,replicasets,services,hpa,pvc,serviceaccounts,roles,rolebindings,configmaps",
            finished.namespace,
        )
        owners = [o for item in left for o in item["metadata"].get("ownerReferences", [])]
        return not uids & {item["metadata"]["uid"] for item in left} and not any(owners)

    wait_until("no child is left", gone, deadline_seconds=180)
