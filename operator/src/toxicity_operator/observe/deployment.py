"""Reads the serving Deployment and its pods from raw objects. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.capacity import EXCEEDED_QUOTA, awaits_capacity, had_its_time
from toxicity_operator.observe.objects import (
    ReadContext,
    condition,
    first_message,
    gpu_resource,
    has_ended,
    image_id,
    label,
)
from toxicity_operator.observe.pods import awaits_events, has_settled, is_new, lacks_gpu, pod_delay, pod_trouble
from toxicity_operator.observe.remedies import fields_of, with_remedy


@dataclass(frozen=True)
class DeploymentState:
    """The serving Deployment. Text fields are empty if there is nothing to report.

    `version` identifies the pod template; `rolled_out`: no pod of an earlier template exists. `trouble` is what is
    wrong with a pod, `waits_for` what a starting pod waits for, `failure` why the rollout exceeded its deadline.
    `failed_fingerprint` and `failed_message` describe the version that the operator replaced by this one, `failed_run`
    the run of the load test that found it slower (empty if it did not become ready). `gpus` is the number per pod;
    `handed_to` names the stage Job that uses them while the Deployment is scaled to 0. `is_paused`: spec.paused is set.
    `events_uid`: the uid of a pod whose Events are needed to explain its state. `is_settling`: a pod is too new to tell
    what it waits for. `awaits_capacity`: a pod of the version waits for a node with free resources, for a volume that
    attaches, or for a quota.
    """

    version: str
    serving_fingerprint: str
    model_fingerprint: str
    replicas: int
    ready_replicas: int
    rolled_out: bool
    trouble: str
    image: str = ""
    image_id: str = ""
    failure: str = ""
    failed_fingerprint: str = ""
    failed_message: str = ""
    failed_run: str = ""
    wanted_replicas: int = 1
    gpus: int = 0
    lacks_gpu: bool = False
    handed_to: str = ""
    waits_for: str = ""
    is_paused: bool = False
    events_uid: str = ""
    is_settling: bool = False
    awaits_capacity: bool = False


def read_deployment(deployment: Raw, pods: list[Raw], context: ReadContext) -> DeploymentState:
    """The state of the Deployment. `pods` may contain pods of Jobs, which are ignored."""
    metadata, spec, status = deployment["metadata"], deployment.get("spec", {}), deployment.get("status", {})
    annotations = metadata.get("annotations", {})
    replicas, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    seen = status.get("observedGeneration", 0) >= metadata.get("generation", 1)
    # a ReplicaSet replaces an evicted pod, but the Failed pod stays until it is garbage collected
    serving = [pod for pod in pods if label(pod, names.COMPONENT_LABEL) == names.SERVE and not has_ended(pod)]
    of_version, refused = _of_version(serving, annotations), _refused_pods(deployment)
    trouble, delay = partial(pod_trouble, context=context), partial(pod_delay, context=context)
    reported = first_message(trouble, serving) or refused
    return DeploymentState(
        version=version_of(annotations),
        serving_fingerprint=annotations.get(names.SERVING_FINGERPRINT, ""),
        model_fingerprint=annotations.get(names.MODEL_FINGERPRINT, ""),
        replicas=replicas,
        ready_replicas=status.get("readyReplicas", 0),
        rolled_out=seen and updated == replicas,
        trouble=reported,
        waits_for=first_message(delay, serving) or _untouched_message(deployment, context),
        image=_image(spec),
        image_id=image_id(of_version, names.SERVE),
        failure=_stalled(status, first_message(trouble, of_version) or refused or first_message(delay, of_version))
        if seen and _has_had_its_time(of_version, deployment, refused, context)
        else "",
        failed_fingerprint=annotations.get(names.FAILED_FINGERPRINT, ""),
        failed_message=annotations.get(names.FAILED_MESSAGE, ""),
        failed_run=annotations.get(names.FAILED_RUN, ""),
        wanted_replicas=spec.get("replicas", replicas),
        gpus=_gpus(spec.get("template", {})),
        lacks_gpu=any(map(lacks_gpu, serving)),
        handed_to=annotations.get(names.HANDED_TO, ""),
        is_paused=bool(spec.get("paused")),
        events_uid=""
        if first_message(trouble, of_version) or refused
        else _events_uid(_first(of_version, serving), context),
        is_settling=any(is_new(pod, context) for pod in serving),
        awaits_capacity=EXCEEDED_QUOTA in refused or any(awaits_capacity(pod, context) for pod in of_version),
    )


def _first(pods: list[Raw], everything: list[Raw]) -> list[Raw]:
    """All pods, those in `pods` first."""
    return [*pods, *(pod for pod in everything if pod not in pods)]


def _has_had_its_time(pods: list[Raw], deployment: Raw, refused: str, context: ReadContext) -> bool:
    """Whether the deadline counts: it includes the wait for capacity, which is no fault of the version."""
    unready = [pod for pod in pods if condition(pod.get("status", {}), "Ready") is None]
    if not unready:
        return EXCEEDED_QUOTA not in refused
    return had_its_time(unready, deployment.get("spec", {}).get("progressDeadlineSeconds", 0), context)


def _image(spec: Raw) -> str:
    containers = spec.get("template", {}).get("spec", {}).get("containers", [])
    return next((str(item.get("image", "")) for item in containers if item["name"] == names.SERVE), "")


def _events_uid(pods: list[Raw], context: ReadContext) -> str:
    """The uid of the first pod whose Events are needed; empty if there is none, or if it is too early to ask."""
    due = [pod for pod in pods if awaits_events(pod) and has_settled(pod, context)]
    return str(due[0]["metadata"].get("uid", "")) if due else ""


def _untouched_message(deployment: Raw, context: ReadContext) -> str:
    """The message for a new Deployment that the Deployment controller ignores. It normally reacts within a second."""
    if deployment.get("status", {}).get("observedGeneration"):
        return ""
    if not context.has_elapsed(deployment["metadata"].get("creationTimestamp")):
        return ""
    return "the Deployment controller has not processed it; check that kube-controller-manager runs"


def _refused_pods(deployment: Raw) -> str:
    """Why the API server rejects the pods or the ReplicaSet of the Deployment; empty if it does not."""
    status, fields = deployment.get("status", {}), fields_of(deployment)
    found = condition(status, "ReplicaFailure")
    if found is not None:
        message = f"pods are rejected ({found.get('reason', '')}): {found.get('message', '')}"
        return with_remedy(message, fields, f"see kubectl describe deployment {deployment['metadata']['name']}")
    found = condition(status, "Progressing", "False")
    if found is not None and found.get("reason") == "ReplicaSetCreateError":
        return with_remedy(
            f"its ReplicaSet is rejected (ReplicaSetCreateError): {found.get('message', '')}", fields
        )
    return ""


def _gpus(template: Raw) -> int:
    resource = gpu_resource(template.get("metadata", {}))
    limits = (
        item.get("resources", {}).get("limits", {}) for item in template.get("spec", {}).get("containers", [])
    )
    return sum(int(limit.get(resource, 0)) for limit in limits)


def version_of(annotations: Raw) -> str:
    """The version in the annotations of a Deployment or of a pod template; empty if there is none.

    Operators that predate the version annotation used the serving fingerprint.
    """
    return str(annotations.get(names.VERSION) or annotations.get(names.SERVING_FINGERPRINT, ""))


def _of_version(pods: list[Raw], annotations: Raw) -> list[Raw]:
    """The pods of the version in the Deployment's annotations, and the pods without a version."""
    wanted = version_of(annotations)
    versions = [version_of(pod["metadata"].get("annotations", {})) or wanted for pod in pods]
    return [pod for pod, version in zip(pods, versions, strict=True) if version == wanted]


def _stalled(status: Raw, message: str) -> str:
    """Why the rollout exceeded its progress deadline: `message`, or the condition's message. Empty if it did not."""
    for found in status.get("conditions", []):
        if found["type"] == "Progressing" and found.get("reason") == "ProgressDeadlineExceeded":
            return message or str(found.get("message", "no progress within the deadline"))
    return ""
