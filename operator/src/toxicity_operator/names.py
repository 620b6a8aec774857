"""Every name, label and annotation key of the operator; no other module formats one."""

from __future__ import annotations

from toxicity_api.base import API_GROUP

FIELD_MANAGER = "toxicity-operator"

REPLICAS_MANAGER = f"{FIELD_MANAGER}-replicas"
"""Field manager that holds a number of replicas which the operator gives up, until an autoscaler sets its own."""

MODEL_LABEL = f"{API_GROUP}/model"
COMPONENT_LABEL = f"{API_GROUP}/component"
FINGERPRINT_LABEL = f"{API_GROUP}/fingerprint"

APPLIED_HASH = f"{API_GROUP}/applied-hash"
"""Annotation: hash of the manifest as the operator last applied it."""

SERVING_FINGERPRINT = f"{API_GROUP}/serving-fingerprint"
"""Annotation of the Deployment: fingerprint of what the spec asks to be served."""

MODEL_FINGERPRINT = f"{API_GROUP}/model-fingerprint"
"""Annotation of the Deployment: fingerprint of the stage that made the weights."""

VERSION = f"{API_GROUP}/version"
"""Annotation of the Deployment and its pods: hash of the pod template as the operator made it."""

FAILED_FINGERPRINT = f"{API_GROUP}/failed-fingerprint"
"""Annotation of a restored Deployment: the version that was given up, as VERSION names it."""

FAILED_MESSAGE = f"{API_GROUP}/failed-message"
"""Annotation of a restored Deployment: why that version was given up."""

HANDED_TO = f"{API_GROUP}/gpu-handed-to"
"""Annotation of a Deployment that was scaled to 0: the stage Job that has its GPU."""

GPU_RESOURCE = "nvidia.com/gpu"

TEMPLATE_HASH_LABEL = "pod-template-hash"
"""Label that the Deployment controller adds to each revision's pods."""

NAME_SUFFIX_LENGTH = 8

TRAIN, QUANTIZE, EVALUATE = "train", "quantize", "evaluate"
SERVE, LOADTEST, STORAGE = "serve", "loadtest", "storage"


def job_name(model: str, component: str, attempt: str) -> str:
    """Name of a stage Job: the same inputs give the same name, so that a second one cannot come to be."""
    return f"{model}-{component}-{attempt[:NAME_SUFFIX_LENGTH]}"


def serving_name(model: str) -> str:
    """Name of the Deployment, the Service and the HorizontalPodAutoscaler."""
    return f"{model}-serve"


def loadtest_account_name(model: str) -> str:
    """Name of the load test's ServiceAccount, Role and RoleBinding."""
    return f"{model}-loadtest"


def loadtest_service_name(model: str) -> str:
    """Name of the headless Service by which the load test's workers find their master."""
    return f"{model}-loadtest"


def loadtest_master_host(job: str, model: str, namespace: str) -> str:
    """Host name of the first pod of an indexed load test Job."""
    return f"{job}-0.{loadtest_service_name(model)}.{namespace}.svc"


def claim_name(model: str) -> str:
    """Name of the artifact volume that the operator makes."""
    return f"{model}-artifacts"


def service_url(model: str, namespace: str) -> str:
    """URL of the Service inside the cluster."""
    return f"http://{serving_name(model)}.{namespace}.svc"


def selector_labels(model: str, component: str) -> dict[str, str]:
    """The labels that find a component's pods; they never change, since a Deployment's selector cannot."""
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
