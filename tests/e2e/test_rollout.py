"""New versions of a model that serves, under traffic: a rejected one, a broken one, an accepted one from the other
quantization backend; then the end of the resource."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.e2e.loop import NAME, Finished
from support.e2e.scenario import condition, patch_spec, serving_pods, wait_for_condition
from support.e2e.traffic import Traffic, constant_traffic
from toxicity_api.conditions import ConditionType
from toxicity_cluster.demo_install import Installation
from toxicity_cluster.demo_kubectl import Manifest, wait_until
from toxicity_cluster.demo_watch import status_of

pytestmark = pytest.mark.e2e

STAGES_SECONDS = 20 * 60
ROLL_OUT_SECONDS = 10 * 60
PROGRESS_DEADLINE_SECONDS = 60
EVENT_SECONDS = 30


@pytest.fixture(scope="module")
def traffic(cluster: Installation, finished: Finished) -> Iterator[Traffic]:
    """Requests to the model from now to the end of the module, its load test switched off."""
    patch_spec(cluster.kubectl, NAME, finished.namespace, {"loadTest": {"enabled": False}})
    serving = status_of(finished.model).serving
    assert serving is not None
    with constant_traffic(cluster.kubectl, finished.namespace, cluster.images["loadtest"], serving.url) as running:
        yield running


def pod_uids(cluster: Installation, finished: Finished) -> set[str]:
    return {pod["metadata"]["uid"] for pod in serving_pods(cluster.kubectl, finished.model)}


def test_rejected_version_is_never_served_and_fails_no_request(
    cluster: Installation, finished: Finished, traffic: Traffic
) -> None:
    before, pods = traffic.answered(), pod_uids(cluster, finished)
    untaught = {"learningRate": 1e-9, "maxSamples": 120, "maxEvaluationSamples": 30}
    patch_spec(cluster.kubectl, NAME, finished.namespace, {"training": untaught, "qualityGate": {"minF1": 0.97}})
    rejected = ConditionType.QUALITY_ACCEPTED, "False", "BelowMinimumF1"
    model = wait_for_condition(cluster, NAME, finished.namespace, rejected, STAGES_SECONDS)
    training = status_of(model).training
    assert training is not None and training.f1_high is not None and training.f1_high < 0.97
    assert f"{training.f1:.4f}" in condition(model, ConditionType.QUALITY_ACCEPTED)["message"]
    assert condition(model, ConditionType.AVAILABLE)["status"] == "True"
    assert "keeps serving" in condition(model, ConditionType.READY)["message"]
    assert pod_uids(cluster, finished) == pods
    answered = traffic.since(before)
    assert answered.sent > 20 and answered.failed == 0, answered


def test_broken_version_gives_way_to_the_last_good_one_and_fails_no_request(
    cluster: Installation, finished: Finished, traffic: Traffic
) -> None:
    before, pods = traffic.answered(), pod_uids(cluster, finished)
    original = finished.model["spec"]
    patch_spec(
        cluster.kubectl,
        NAME,
        finished.namespace,
        {
            "training": {"learningRate": original["training"]["learningRate"], "maxSamples": 300},
            "qualityGate": {"minF1": original["qualityGate"]["minF1"]},
            "serving": {
                "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
                "resources": {"requests": {"memory": "300Mi"}, "limits": {"memory": "300Mi"}},
            },
        },
    )
    rolled_back = ConditionType.READY, "False", "RolledBack"
    model = wait_for_condition(cluster, NAME, finished.namespace, rolled_back, ROLL_OUT_SECONDS)
    serving = status_of(model).serving
    assert serving is not None and serving.failed_fingerprint is not None
    assert serving.good_fingerprint != serving.failed_fingerprint
    assert "OOMKilled" in condition(model, ConditionType.READY)["message"], condition(model, ConditionType.READY)

    def told() -> list[Manifest]:
        events = cluster.kubectl.list("events", finished.namespace)
        return [event for event in events if event["reason"] == "RolledBack"]

    # it follows the status
    (event,) = wait_until("the event", told, EVENT_SECONDS)
    assert serving.failed_fingerprint in event["message"]
    wait_until("only the good pods are left", lambda: pod_uids(cluster, finished) == pods, ROLL_OUT_SECONDS)
    answered = traffic.since(before)
    assert answered.sent > 20 and answered.failed == 0, answered


def test_accepted_version_of_the_other_backend_replaces_it_and_fails_no_request(
    cluster: Installation, finished: Finished, traffic: Traffic
) -> None:
    before, pods = traffic.answered(), pod_uids(cluster, finished)
    serving = finished.model["spec"]["serving"]
    patch_spec(
        cluster.kubectl,
        NAME,
        finished.namespace,
        {
            "quantization": {"backend": "autoawq"},
            # test_loop.py covers compiled code; here it would only take two minutes
            "serving": {"progressDeadlineSeconds": 600, "resources": serving["resources"], "enforceEager": True},
        },
    )
    done = ConditionType.READY, "True", "AllStagesDone"
    model = wait_for_condition(cluster, NAME, finished.namespace, done, STAGES_SECONDS)
    status = status_of(model)
    assert status.quantization is not None and status.quantization.backend == "autoawq"
    assert status.evaluation is not None and status.evaluation.drop is not None
    assert status.serving is not None
    assert status.serving.model_fingerprint == status.quantization.fingerprint
    assert status.serving.failed_fingerprint is None
    wait_until("the old pods are gone", lambda: not pod_uids(cluster, finished) & pods, ROLL_OUT_SECONDS)
    answered = traffic.since(before)
    assert answered.sent > 20 and answered.failed == 0, answered


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
