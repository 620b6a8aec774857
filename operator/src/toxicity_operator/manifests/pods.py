"""Adds the pod settings of a stage to its pod template, and places pods by the volume that they share."""

from __future__ import annotations

from collections.abc import Sequence

from toxicity_api.base import Document
from toxicity_api.spec import PodSettings
from toxicity_operator import names
from toxicity_operator.manifests.common import Manifest

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
SCALARS = {
    "priority_class_name": "priorityClassName",
    "runtime_class_name": "runtimeClassName",
    "scheduler_name": "schedulerName",
    "service_account_name": "serviceAccountName",
}
"""Settings that are copied to a field of the pod."""


def queue_labels(settings: PodSettings) -> dict[str, str]:
    """The label by which Kueue admits a Job or Deployment; empty without a queue."""
    return {names.QUEUE_LABEL: settings.queue_name} if settings.queue_name else {}


def gpu_annotations(settings: PodSettings) -> dict[str, str]:
    """The annotation that names the resource that counts GPUs; empty for nvidia.com/gpu."""
    name = settings.gpu_resource_name
    return {names.GPU_RESOURCE_NAME: name} if name and name != names.GPU_RESOURCE else {}


def with_pod_settings(template: Manifest, settings: PodSettings) -> Manifest:
    """The pod template with the settings. Containers of other images get neither variables nor volumes."""
    metadata, pod = template["metadata"], dict(template["spec"])
    labels, annotations = {**settings.labels, **metadata["labels"]}, {
        **settings.annotations, **metadata.get("annotations", {}), **gpu_annotations(settings),
    }  # fmt: skip
    for kind in ("initContainers", "containers"):
        if kind in pod:
            pod[kind] = [_container(item, settings) for item in pod[kind]]
    if settings.volumes:
        pod["volumes"] = [*pod["volumes"], *_wire(settings.volumes)]
    pod |= {field: getattr(settings, name) for name, field in SCALARS.items() if getattr(settings, name)}
    if settings.affinity:
        pod["affinity"] = settings.affinity
    if settings.topology_spread_constraints:
        pod["topologySpreadConstraints"] = [
            {"labelSelector": {"matchLabels": _selected(labels)}, **item}
            for item in settings.topology_spread_constraints
        ]
    changed = {**metadata, "labels": labels, **({"annotations": annotations} if annotations else {})}
    return {"metadata": changed, "spec": pod}


def _selected(labels: dict[str, str]) -> dict[str, str]:
    return {key: labels[key] for key in (names.MODEL_LABEL, names.COMPONENT_LABEL)}


def _container(item: Manifest, settings: PodSettings) -> Manifest:
    """The container with variables and mounts if it runs an image of the operator."""
    if item["command"][0] != "python":
        return item
    fields: Manifest = {}
    if settings.env:
        # ours first, so that $(NAME) in a user's value can refer to them
        fields["env"] = [*item.get("env", []), *_wire(settings.env)]
    if settings.env_from:
        fields["envFrom"] = _wire(settings.env_from)
    if settings.volume_mounts:
        fields["volumeMounts"] = [*item["volumeMounts"], *_wire(settings.volume_mounts)]
    return {**item, **fields}


def _wire(documents: Sequence[Document]) -> list[Manifest]:
    # without defaults, which the API server would leave out, so that they would count as drift
    return [document.model_dump(by_alias=True, exclude_defaults=True) for document in documents]
