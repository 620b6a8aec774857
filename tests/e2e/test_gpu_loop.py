"""`make test-gpu-loop`: the whole loop of a small model on the one GPU of KUBECONFIG's cluster.

The sample for one GPU with less data and a small base model: the same engines, precision, strategy and requests.
"""

from __future__ import annotations

import pytest

from support.e2e.scenario import config_map_of, jobs, pods_of, serving_pods, small_gpu_model
from toxicity_api.conditions import ABNORMAL_TYPES, ConditionType
from toxicity_cluster.demo_install import SAMPLE_DATASET, Installation
from toxicity_cluster.demo_kubectl import Manifest
from toxicity_cluster.demo_probe import classify
from toxicity_cluster.demo_watch import Watcher, status_of

pytestmark = pytest.mark.gpu

NAME = "gpu-loop"
READY_SECONDS = 60 * 60
GPU = "nvidia.com/gpu"


def gpus_of(pod: Manifest) -> int:
    return sum(int(item["resources"].get("limits", {}).get(GPU, 0)) for item in pod["spec"]["containers"])


def test_small_model_goes_from_data_to_answers_on_one_gpu(cluster: Installation, namespace: str) -> None:
    kubectl = cluster.kubectl
    kubectl.apply(config_map_of("comments", SAMPLE_DATASET), namespace)
    kubectl.apply(small_gpu_model(NAME, "comments", cluster.images), namespace)
    model = Watcher(kubectl, namespace, say=print).follow(NAME, READY_SECONDS)

    conditions = {item["type"]: item["status"] for item in model["status"]["conditions"]}
    assert conditions == {str(kind): "False" if kind in ABNORMAL_TYPES else "True" for kind in ConditionType}
    stages = [pod for stage in ("train", "quantize", "evaluate") for job in jobs(kubectl, namespace, stage)
              for pod in pods_of(kubectl, job)]  # fmt: skip
    assert [gpus_of(pod) for pod in stages] == [1, 1, 1]
    serving = serving_pods(kubectl, model)
    assert [gpus_of(pod) for pod in serving] == [1]
    status = status_of(model)
    assert status.evaluation is not None and (status.evaluation.engine or "").startswith("vllm ")
    assert status.serving is not None and status.serving.url
    texts = ["Заткнись, тупой урод", "Во сколько открывается бассейн?"]
    answers = classify(kubectl, namespace, cluster.images["loadtest"], status.serving.url, texts)
    assert all(0 <= answer.score <= 1 for answer in answers)
