"""All object names, labels and annotation keys of the operator. No other module builds one."""

from __future__ import annotations

from toxicity_api.base import API_GROUP

FIELD_MANAGER = "toxicity-operator"

REPLICAS_MANAGER = f"{FIELD_MANAGER}-replicas"
"""Field manager that keeps `replicas` of a Deployment until an autoscaler sets the field."""

MODEL_LABEL = f"{API_GROUP}/model"
COMPONENT_LABEL = f"{API_GROUP}/component"
FINGERPRINT_LABEL = f"{API_GROUP}/fingerprint"

APPLIED_HASH = f"{API_GROUP}/applied-hash"
"""Annotation: hash of the manifest as the operator last applied it."""

SERVING_FINGERPRINT = f"{API_GROUP}/serving-fingerprint"
"""Annotation of the Deployment: fingerprint of the serving stage of the spec."""

MODEL_FINGERPRINT = f"{API_GROUP}/model-fingerprint"
"""Annotation of the Deployment: fingerprint of the stage that produced the weights."""

VERSION = f"{API_GROUP}/version"
"""Annotation of the Deployment and its pods: hash of the operator's pod template."""

FAILED_FINGERPRINT = f"{API_GROUP}/failed-fingerprint"
"""Annotation of a Deployment after a rollback: the version that failed."""

FAILED_MESSAGE = f"{API_GROUP}/failed-message"
"""Annotation of a Deployment after a rollback: why that version failed."""

FAILED_RUN = f"{API_GROUP}/failed-in-run"
"""Annotation of a Deployment after a rollback: the loadTest.runId whose load test found that version slower."""

HANDED_TO = f"{API_GROUP}/gpu-handed-to"
"""Annotation of a Deployment that was scaled to 0: the stage Job that uses its GPU."""

GPU_RESOURCE = "nvidia.com/gpu"

GPU_RESOURCE_NAME = f"{API_GROUP}/gpu-resource"
"""Annotation of pods whose GPUs are not counted by GPU_RESOURCE: the name of their resource."""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Kueue's label of a Job or Deployment: the LocalQueue that admits it."""

TEMPLATE_HASH_LABEL = "pod-template-hash"
"""Label that the Deployment controller adds to each revision's pods."""

NAME_SUFFIX_LENGTH = 8

HELD_OUT_PREFIX = "test-set-"
"""Start of the name of an init container that downloads or copies a test set of the evaluation."""

TRAIN, QUANTIZE, EVALUATE = "train", "quantize", "evaluate"
SERVE, LOADTEST, STORAGE = "serve", "loadtest", "storage"


def job_name(model: str, component: str, attempt: str) -> str:
    """Name of a stage Job. Equal inputs give the same name, so a second Job cannot be created."""
    return f"{model}-{component}-{attempt[:NAME_SUFFIX_LENGTH]}"


def held_out_name(name: str) -> str:
    """Name of the volume or the init container that provides a test set."""
    return f"{HELD_OUT_PREFIX}{name}"


def held_out_field(name: str) -> str:
    """The field of a test set, for messages."""
    return f"evaluation.testSets[{name}]"


def serving_name(model: str) -> str:
    """Name of the Deployment, the Service, the PodDisruptionBudget, the autoscaler and the Ingress or HTTPRoute."""
    return f"{model}-serve"


def loadtest_account_name(model: str) -> str:
    """Name of the load test's ServiceAccount, Role and RoleBinding."""
    return f"{model}-loadtest"


def loadtest_service_name(model: str) -> str:
    """Name of the headless Service with which the load test's workers find their master."""
    return f"{model}-loadtest"


def loadtest_master_host(job: str, model: str, namespace: str) -> str:
    """Host name of the first pod of an indexed load test Job."""
    return f"{job}-0.{loadtest_service_name(model)}.{namespace}.svc"


def claim_name(model: str) -> str:
    """Name of the PersistentVolumeClaim that the operator creates for the artifacts."""
    return f"{model}-artifacts"


def service_url(model: str, namespace: str) -> str:
    """URL of the Service inside the cluster."""
    return f"http://{serving_name(model)}.{namespace}.svc"


def selector_labels(model: str, component: str) -> dict[str, str]:
    """The labels that select a component's pods. They never change, because a Deployment's selector is immutable."""
    return {MODEL_LABEL: model, COMPONENT_LABEL: component}


def labels(model: str, component: str) -> dict[str, str]:
    """All labels of a child."""
    return {
        "app.kubernetes.io/name": "toxicity-model",
        "app.kubernetes.io/instance": model,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        **selector_labels(model, component),
    }
