"""One GPU, in name only, for the stages and the service: real pods, placed by the real scheduler, told in order.

The node is said to have one `nvidia.com/gpu`; what runs in the pods is `stand_in.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest

from support import builders
from support.e2e.loop import kill_operator
from support.e2e.scenario import condition, get_model, jobs, patch_spec, pods_of, serving_pods, wait_for_condition
from support.e2e.stand_in import UNLUCKY_SEED
from support.e2e.stand_in_image import build_stand_in
from toxicity_api.conditions import ConditionType
from toxicity_cluster.demo_install import Installation
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, wait_until
from toxicity_cluster.demo_watch import status_of
from toxicity_cluster.settings import Settings
from toxicity_operator.names import GPU_RESOURCE, claim_name

pytestmark = pytest.mark.e2e

NAME = "one-gpu"
SECONDS = 180
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
CAPACITY = f"/status/capacity/{GPU_RESOURCE.replace('/', '~1')}"


@pytest.fixture(scope="module")
def gpu(cluster: Installation, embedded: Settings) -> Iterator[None]:
    """Every node has one GPU in name."""
    kubectl = cluster.kubectl
    nodes = [node["metadata"]["name"] for node in kubectl.list("nodes", "default")]
    for node in nodes:
        patch_capacity(kubectl, node, {"op": "add", "path": CAPACITY, "value": "1"})
    wait_until("the kubelet to allow pods the GPU", lambda: allocatable(kubectl) == ["1"] * len(nodes), SECONDS)
    yield
    for node in nodes:
        patch_capacity(kubectl, node, {"op": "remove", "path": CAPACITY})


def patch_capacity(kubectl: Kubectl, node: str, operation: dict[str, str]) -> None:
    kubectl.run("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps([operation]))


def allocatable(kubectl: Kubectl) -> list[str]:
    return [node["status"]["allocatable"].get(GPU_RESOURCE, "0") for node in kubectl.list("nodes", "default")]


@pytest.fixture(scope="module")
def image(cluster: Installation, embedded: Settings) -> str:
    """The stand-in, on the node."""
    return build_stand_in(embedded, cluster.images["operator"])


def model_with_one_gpu(image: str) -> Manifest:
    stage = {"gpus": 1, "resources": SMALL}
    claim = {"persistentVolumeClaim": {"claimName": claim_name(NAME), "path": "unused"}}
    spec = {
        "dataset": claim,
        "baseModel": claim,
        "training": stage,
        "quantization": stage,
        "serving": {**stage, "strategy": "Recreate", "replicas": 1},
        "qualityGate": {"minF1": 0.5},
        "loadTest": {"enabled": False},
        "images": dict.fromkeys(("training", "quantization", "quantizationAutoawq", "serving"), image),
    }
    model = builders.ModelBuilder(name=NAME, spec=spec).raw()
    return model | {"metadata": {"name": NAME}}


def wait_for(cluster: Installation, namespace: str, kind: ConditionType, status: str, reason: str) -> Manifest:
    return wait_for_condition(cluster, NAME, namespace, (kind, status, reason), SECONDS)


def uids(kubectl: Kubectl, model: Manifest) -> set[str]:
    return {pod["metadata"]["uid"] for pod in serving_pods(kubectl, model)}


def on_the_gpu(kubectl: Kubectl, namespace: str) -> list[tuple[str, str, str]]:
    """Begin, end and name of every container that had the GPU, in order; those that run end at no time."""
    found = []
    for pod in kubectl.list("pods", namespace):
        assert pod["spec"]["containers"][0]["resources"]["limits"][GPU_RESOURCE] == "1"
        for container in pod["status"].get("containerStatuses", []):
            state = container["state"].get("terminated") or container["state"].get("running")
            if state:
                found.append((state["startedAt"], state.get("finishedAt", "~"), pod["metadata"]["name"]))
    return sorted(found)


def test_gpu_goes_from_training_to_quantization_to_evaluation_to_serving(
    cluster: Installation, gpu: None, image: str, module_namespace: str
) -> None:
    cluster.kubectl.apply(model_with_one_gpu(image), module_namespace)
    model = wait_for(cluster, module_namespace, ConditionType.READY, "True", "AllStagesDone")
    turns = on_the_gpu(cluster.kubectl, module_namespace)
    assert [part for _, _, name in turns for part in ("train", "quantize", "evaluate", "serve") if part in name] == [
        "train", "quantize", "evaluate", "serve",
    ]  # fmt: skip
    assert all(end <= begin for (_, end, _), (begin, _, _) in pairwise(turns)), turns
    assert len(uids(cluster.kubectl, model)) == 1


def test_without_recreate_the_next_training_waits_and_says_why(
    cluster: Installation, gpu: None, module_namespace: str
) -> None:
    before = uids(cluster.kubectl, get_model(cluster, NAME, module_namespace))
    change = {"training": {"epochs": 2}, "serving": {"strategy": "RollingUpdate"}}
    patch_spec(cluster.kubectl, NAME, module_namespace, change)
    model = wait_for(cluster, module_namespace, ConditionType.TRAINED, "Unknown", "WaitingForGPU")
    message = condition(model, ConditionType.TRAINED)["message"]
    assert f"Insufficient {GPU_RESOURCE}" in message and "serving.strategy: Recreate" in message
    assert condition(model, ConditionType.AVAILABLE)["status"] == "True"
    assert uids(cluster.kubectl, model) == before


def test_with_recreate_the_service_makes_room_and_comes_back_new_though_the_operator_is_killed(
    cluster: Installation, gpu: None, module_namespace: str
) -> None:
    kubectl = cluster.kubectl
    before = uids(kubectl, get_model(cluster, NAME, module_namespace))
    patch_spec(kubectl, NAME, module_namespace, {"serving": {"strategy": "Recreate"}})
    wait_for(cluster, module_namespace, ConditionType.AVAILABLE, "False", "GPUHandedOver")
    kill_operator(kubectl)
    model = wait_for(cluster, module_namespace, ConditionType.READY, "True", "AllStagesDone")
    after = uids(kubectl, model)
    assert len(after) == 1 and not after & before
    status = status_of(model)
    assert status.serving is not None and status.quantization is not None
    assert status.serving.model_fingerprint == status.quantization.fingerprint
    (serving,) = serving_pods(kubectl, model)
    begun = serving["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    for part in ("train", "quantize", "evaluate"):
        assert len(jobs(kubectl, module_namespace, part)) == 2
        for job in jobs(kubectl, module_namespace, part):
            assert job["status"]["completionTime"] <= begun
    told = [event["reason"] for event in kubectl.list("events", module_namespace)]
    assert told.count("GPUHandedOver") <= 1  # the operator may have been killed between its status and its event


def test_version_before_serves_again_when_the_training_fails(
    cluster: Installation, gpu: None, module_namespace: str
) -> None:
    kubectl = cluster.kubectl
    model = get_model(cluster, NAME, module_namespace)
    before, pods = status_of(model).serving, uids(kubectl, model)
    patch_spec(kubectl, NAME, module_namespace, {"training": {"seed": UNLUCKY_SEED}})
    wait_for(cluster, module_namespace, ConditionType.TRAINED, "False", "EmptyText")
    model = wait_for(cluster, module_namespace, ConditionType.AVAILABLE, "True", "ReplicasReady")
    after = status_of(model).serving
    assert before is not None and after is not None
    assert (after.model_fingerprint, after.good_fingerprint) == (before.model_fingerprint, before.good_fingerprint)
    assert not uids(kubectl, model) & pods, "its pods had made room for the training"
    (failed,) = [job for job in jobs(kubectl, module_namespace, "train") if job["status"].get("failed")]
    assert len(pods_of(kubectl, failed)) == 1
