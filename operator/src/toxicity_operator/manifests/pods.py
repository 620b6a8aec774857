"""Adds the pod settings of a stage to its pod template, and places pods by the volume that they share."""

from __future__ import annotations

from collections.abc import Sequence

from toxicity_api.base import Document
from toxicity_api.spec import PodSettings
from toxicity_operator import names
from toxicity_operator.manifests.common import Manifest
from toxicity_operator.model import Model

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
MANY_NODES = frozenset({"ReadWriteMany", "ReadOnlyMany"})
"""Access modes of a volume that pods on several nodes can use."""

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


def with_placement(template: Manifest, model: Model) -> Manifest:
    """The pod template with the affinity of a volume that one node can use, or else with serving pods spread."""
    pod, labels = template["spec"], template["metadata"]["labels"]
    storage = model.spec.storage
    if storage.object_store is None and not MANY_NODES & set(storage.access_modes):
        return {**template, "spec": {**pod, "affinity": _on_one_node(pod.get("affinity", {}), model.name)}}
    if labels[names.COMPONENT_LABEL] != names.SERVE or "topologySpreadConstraints" in pod:
        return template
    return {
        **template,
        "spec": {**pod, "topologySpreadConstraints": [_spread(key, labels) for key in (HOSTNAME, ZONE)]},
    }


def _on_one_node(affinity: Manifest, model: str) -> Manifest:
    """The affinity with a term for the node of the model's other pods. The first pod matches its own term.

    It is required, since a pod on another node would wait for the volume there and block resources. The scheduler
    counts only pods that match all required terms, so beside another required term it can only be preferred.
    """
    term = {"labelSelector": {"matchLabels": {names.MODEL_LABEL: model}}, "topologyKey": HOSTNAME}
    of_pods = affinity.get("podAffinity", {})
    if of_pods.get(REQUIRED):
        added = {PREFERRED: [*of_pods.get(PREFERRED, []), {"weight": 100, "podAffinityTerm": term}]}
    else:
        added = {REQUIRED: [term]}
    return {**affinity, "podAffinity": {**of_pods, **added}}


def _spread(topology: str, labels: dict[str, str]) -> Manifest:
    """A constraint that spreads the pods of one version if it can. A full node must not block a pod."""
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selected(labels)},
        "matchLabelKeys": [names.TEMPLATE_HASH_LABEL],
    }


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
