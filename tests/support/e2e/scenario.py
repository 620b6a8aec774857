"""What the end-to-end tests look at in a cluster: children of a resource, counted requests, small specs."""

from __future__ import annotations

import copy
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toxicity_api.conditions import ConditionType
from toxicity_cluster.demo_install import Installation, load_sample
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, wait_until
from toxicity_cluster.demo_probe import build_probe_pod, run_pod

CHILD_KINDS = (
    "jobs,deployments,services,horizontalpodautoscalers,persistentvolumeclaims,"
    "serviceaccounts,poddisruptionbudgets,ingresses,roles,rolebindings,configmaps"
)
DATASET_KEY = "comments.csv"


def small_model(name: str, dataset_config_map: str, images: Mapping[str, str]) -> Manifest:
    """The sample for two cores, made smaller still, with a ConfigMap as its data."""
    model = copy.deepcopy(load_sample("cpu"))
    model["metadata"]["name"] = name
    spec = model["spec"]
    spec["dataset"] = {"configMap": {"name": dataset_config_map, "key": DATASET_KEY}}
    spec["baseModel"]["image"]["reference"] = images["base-model"]
    spec["training"].update({"maxSamples": 300, "maxEvaluationSamples": 30, "maxInputLength": 64})
    spec["quantization"].update({"calibrationSamples": 8, "calibrationLength": 32})
    # with thirty test rows a gate would be a lottery; what it decides is tested without a cluster
    spec["qualityGate"] = {"metric": "toxicF1", "minF1": 0.2}
    # a version is exchanged under traffic, two at a time, on two cores
    spec["serving"]["strategy"] = "RollingUpdate"
    spec["serving"]["resources"]["requests"]["cpu"] = "400m"
    spec["loadTest"].update(
        {
            "users": 4,
            "requestedRps": 2,
            "bucketStep": 200,
            "maxLength": 600,
            "secondsPerBucket": 5,
            "warmupSeconds": 3,
        }
    )
    spec["storage"]["size"] = "5Gi"
    return model


def small_gpu_model(name: str, dataset_config_map: str, images: Mapping[str, str]) -> Manifest:
    """The sample for one GPU, with the data, the base model and the load of `small_model`."""
    model, small = copy.deepcopy(load_sample("gpu")), small_model(name, dataset_config_map, images)["spec"]
    model["metadata"]["name"] = name
    spec = model["spec"]
    for field in ("dataset", "baseModel", "qualityGate", "loadTest", "storage"):
        spec[field] = small[field]
    spec["training"].update({"maxSamples": 300, "maxEvaluationSamples": 30, "epochs": 1, "maxInputLength": 64})
    spec["quantization"].update({"calibrationSamples": 8, "calibrationLength": 32})
    for part in ("training", "quantization", "serving"):
        spec[part]["resources"] = {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "16Gi"}}
    return model


def config_map(name: str, content: str) -> Manifest:
    """A data set as a ConfigMap."""
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {DATASET_KEY: content}}


def config_map_of(name: str, file: Path) -> Manifest:
    """A file as a ConfigMap."""
    return config_map(name, file.read_text(encoding="utf-8"))


def children(kubectl: Kubectl, model: Manifest) -> dict[str, tuple[str, int]]:
    """`Kind/name` of everything the resource owns, with its UID and generation (0 where a kind has none)."""
    found = kubectl.list(CHILD_KINDS, model["metadata"]["namespace"])
    owned = [item for item in found if model["metadata"]["uid"] in _owner_uids(item)]
    return {_title(item): (item["metadata"]["uid"], item["metadata"].get("generation", 0)) for item in owned}


def _title(item: Manifest) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def _owner_uids(item: Manifest) -> set[str]:
    return {owner["uid"] for owner in item["metadata"].get("ownerReferences", [])}


def jobs(kubectl: Kubectl, namespace: str, stage: str) -> Sequence[Manifest]:
    """The Jobs of one stage (train, quantize, loadtest) in a namespace that holds one model."""
    return [job for job in kubectl.list("jobs", namespace) if f"-{stage}-" in job["metadata"]["name"]]


def pods_of(kubectl: Kubectl, job: Manifest) -> Sequence[Manifest]:
    """The pods that a Job has made."""
    pods = kubectl.list("pods", job["metadata"]["namespace"])
    return [pod for pod in pods if job["metadata"]["uid"] in _owner_uids(pod)]


def serving_pods(kubectl: Kubectl, model: Manifest) -> Sequence[Manifest]:
    """The pods behind the model's Service."""
    metadata = model["metadata"]
    service = kubectl.get("service", f"{metadata['name']}-serve", metadata["namespace"])
    assert service is not None
    selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
    return kubectl.list("pods", metadata["namespace"], selector)


def counted_requests(kubectl: Kubectl, pods: Sequence[Manifest]) -> int:
    """POST /v1/classify requests that these serving pods have counted, whatever their outcome."""
    texts = [_metrics(kubectl, pod) for pod in pods]
    counts = re.findall(r"^toxicity_requests_total\{[^}]*\} ([0-9.e+]+)$", "\n".join(texts), re.MULTILINE)
    assert counts, "the server has no counter toxicity_requests_total"
    return round(sum(float(count) for count in counts))


def _metrics(kubectl: Kubectl, pod: Manifest) -> str:
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}:8000/proxy/metrics"
    return kubectl.run("get", "--raw", path)


def condition(model: Manifest, kind: str) -> dict[str, Any]:
    """The condition of this type; empty while there is none for the present generation."""
    found = [c for c in model.get("status", {}).get("conditions", []) if c["type"] == kind]
    current = [c for c in found if c["observedGeneration"] == model["metadata"]["generation"]]
    return current[0] if current else {}


def patch_spec(kubectl: Kubectl, name: str, namespace: str, change: Mapping[str, Any]) -> None:
    """Merges `change` into the resource's spec."""
    document = json.dumps({"spec": change})
    kubectl.run("patch", "toxicitymodel", name, "-n", namespace, "--type=merge", "-p", document)


def wait_for_condition(
    cluster: Installation, name: str, namespace: str, wanted: tuple[ConditionType, str, str], seconds: float
) -> Manifest:
    """The resource once a condition has the `wanted` type, status and reason for the present spec."""
    kind, status, reason = wanted

    def reached() -> Manifest | None:
        model = get_model(cluster, name, namespace)
        found = condition(model, kind)
        return model if (found.get("status"), found.get("reason")) == (status, reason) else None

    return wait_until(f"{kind} is {status} {reason}", reached, seconds)


def get_model(cluster: Installation, name: str, namespace: str) -> Manifest:
    """The resource as it is now."""
    model = cluster.kubectl.get("toxicitymodel", name, namespace)
    assert model is not None, f"{name} is gone"
    return model


def run_on_volume(
    kubectl: Kubectl, namespace: str, image: str, claim: str, script: str, environment: Mapping[str, str] = {}
) -> str:
    """Run a Python script in a pod that has the volume of `claim` at /data, and return the log."""
    pod = build_probe_pod(f"volume-{secrets.token_hex(4)}", image, script, dict(environment))
    pod["spec"]["securityContext"]["fsGroup"] = 10001
    pod["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return run_pod(kubectl, namespace, pod)
