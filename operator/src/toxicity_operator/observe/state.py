"""A frozen view of a resource's children, read from raw objects once; the deciding code sees only this."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import ValidationError

from toxicity_api.base import read_document
from toxicity_api.conditions import Reason
from toxicity_api.results import StageResult
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.autoscaler import AutoscalerState, read_autoscalers
from toxicity_operator.observe.pods import MESSAGE_LIMIT, lacks_gpu, pod_delay, pod_trouble, refused_source

JobOutcome = Literal["Running", "Succeeded", "Failed"]
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Kubernetes' own reason of a Job that ran longer than its activeDeadlineSeconds."""

GRANDCHILDREN = ("Pod", "ReplicaSet")
"""Kinds that the Job and Deployment controllers make, not the operator."""


@dataclass(frozen=True)
class JobState:
    """A stage Job and what its newest telling pod said. `running_pod`: the one whose stage container runs, or "".

    `lacks_gpu`: a pod of it waits, since no node has as many GPUs free as it asks for.
    """

    name: str
    component: str
    fingerprint: str
    outcome: JobOutcome
    reason: str
    message: str
    started_at: str | None
    finished_at: str | None
    result: StageResult | None
    running_pod: str
    image_id: str = ""
    lacks_gpu: bool = False


@dataclass(frozen=True)
class DeploymentState:
    """The serving Deployment. `rolled_out`: no pod of an earlier template is left.

    `trouble` is what is wrong, `waits_for` what a pod that only just starts waits for. `failure` says why its
    roll-out was given up, or ""; `failed_fingerprint` and `failed_message` are what the
    operator noted on it of an earlier version when it restored this one. `gpus` are those of one
    pod; `handed_to` is the stage Job that has them while there are no pods, or "".
    """

    serving_fingerprint: str
    model_fingerprint: str
    replicas: int
    ready_replicas: int
    rolled_out: bool
    trouble: str
    image_id: str = ""
    failure: str = ""
    failed_fingerprint: str = ""
    failed_message: str = ""
    wanted_replicas: int = 1
    gpus: int = 0
    lacks_gpu: bool = False
    handed_to: str = ""
    waits_for: str = ""


@dataclass(frozen=True)
class Observed:
    """Everything that exists for one resource."""

    objects: Mapping[tuple[str, str], Raw]
    jobs: tuple[JobState, ...]
    deployment: DeploymentState | None
    autoscalers: Mapping[str, AutoscalerState] = field(default_factory=dict)
    """By kind; more than one only while the spec's metric is exchanged."""

    templates: Mapping[str, Raw] = field(default_factory=dict)
    """Pod templates of the Deployment's revisions by serving fingerprint."""

    missing_kinds: frozenset[str] = frozenset()
    """Kinds that the cluster does not serve."""

    def has(self, kind: str, name: str) -> bool:
        """Whether the child exists."""
        return (kind, name) in self.objects

    @cached_property
    def jobs_by_name(self) -> Mapping[str, JobState]:
        return {job.name: job for job in self.jobs}


def from_objects(objects: Iterable[Raw], missing_kinds: frozenset[str] = frozenset()) -> Observed:
    """The view of raw objects (Jobs, the Deployment, their pods and revisions, the rest), each with its `kind`."""
    everything = list(objects)
    pods = [item for item in everything if item["kind"] == "Pod"]
    children = [item for item in everything if item["kind"] not in GRANDCHILDREN]
    jobs = tuple(_job_state(item, pods) for item in children if item["kind"] == "Job")
    deployments = [item for item in children if item["kind"] == "Deployment"]
    return Observed(
        objects={(item["kind"], item["metadata"]["name"]): item for item in children},
        jobs=jobs,
        deployment=_deployment_state(deployments[0], pods) if deployments else None,
        autoscalers=read_autoscalers(children),
        templates=_templates(everything, deployments[0]) if deployments else {},
        missing_kinds=missing_kinds,
    )


def _templates(objects: Iterable[Raw], deployment: Raw) -> dict[str, Raw]:
    revisions = [item for item in objects if item["kind"] == "ReplicaSet" and _is_owned_by(item, deployment)]
    templates = [revision["spec"]["template"] for revision in revisions]
    found = {
        str(template["metadata"].get("annotations", {}).get(names.SERVING_FINGERPRINT, "")): template
        for template in templates
    }
    return {fingerprint: template for fingerprint, template in found.items() if fingerprint}


def _label(item: Raw, key: str) -> str:
    return str(item["metadata"].get("labels", {}).get(key, ""))


def _job_state(job: Raw, pods: list[Raw]) -> JobState:
    name, component, status = job["metadata"]["name"], _label(job, names.COMPONENT_LABEL), job.get("status", {})
    end = finished_condition(status)
    own = sorted(
        (pod for pod in pods if _is_owned_by(pod, job)),
        key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")),
        reverse=True,
    )
    outcome: JobOutcome = "Running" if end is None else "Succeeded" if end["type"] == "Complete" else "Failed"
    result = _stage_result(own, component, outcome)
    reason, message = "", _wait_words(job, own)
    if outcome == "Failed":
        reason, message = _failure(job, end or {}, own, result)
    return JobState(
        name=name,
        component=component,
        fingerprint=_label(job, names.FINGERPRINT_LABEL),
        outcome=outcome,
        reason=reason,
        message=message,
        started_at=status.get("startTime"),
        finished_at=status.get("completionTime") or (end or {}).get("lastTransitionTime"),
        result=result,
        running_pod=_running_pod(own, component) if outcome == "Running" else "",
        image_id=_image_id(own, component),
        lacks_gpu=any(map(lacks_gpu, own)),
    )


def _wait_words(job: Raw, pods: list[Raw]) -> str:
    """What a Job that has not ended waits for, by its newest pod, or by its controller where there is none."""
    if pods:
        return pod_trouble(pods[0]) or pod_delay(pods[0])
    status, name = job.get("status", {}), job["metadata"]["name"]
    # `active` counts pods that the mirror may not have yet; a true condition is a Job that ends or is suspended
    if not status.get("startTime") or status.get("active") or any(_true(status.get("conditions", []))):
        return ""
    return f"it has no pod yet: kubectl describe job {name} says why"


def _true(conditions: Iterable[Raw]) -> list[Raw]:
    return [condition for condition in conditions if condition["status"] == "True"]


def _is_owned_by(item: Raw, owner: Raw) -> bool:
    return any(found["uid"] == owner["metadata"]["uid"] for found in item["metadata"].get("ownerReferences", []))


def finished_condition(status: Raw) -> Raw | None:
    """The condition by which a Job's status says that it has ended; None while it has not."""
    conditions = status.get("conditions", [])
    return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)


def _running_pod(pods: list[Raw], component: str) -> str:
    """The newest pod whose stage container runs, so that it has a log; empty when there is none."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            if container["name"] == component and container.get("state", {}).get("running"):
                return str(pod["metadata"]["name"])
    return ""


def _image_id(pods: list[Raw], component: str) -> str:
    """The image of the component's container in the newest pod that has started it."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            if container["name"] == component and container.get("imageID"):
                return str(container["imageID"])
    return ""


def _stage_result(pods: list[Raw], component: str, outcome: JobOutcome) -> StageResult | None:
    """The newest result document that says the same as the Job: a pod that failed first does not speak for it."""
    wanted = {"Running": None, "Succeeded": "succeeded", "Failed": "failed"}[outcome]
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", []):
            terminated = status.get("state", {}).get("terminated") or {}
            result = _parse_result(terminated.get("message", "")) if status["name"] == component else None
            if result is not None and result.outcome == wanted:
                return result
    return None


def _parse_result(text: str) -> StageResult | None:
    try:
        return read_document(StageResult, text, "a stage's result")
    except ValidationError:
        return None


def _failure(job: Raw, condition: Raw, pods: list[Raw], result: StageResult | None) -> tuple[str, str]:
    """Reason and message of a failed Job, the most telling source first: a missed deadline, stage, container, Job."""
    if condition.get("reason") == DEADLINE_EXCEEDED:
        return DEADLINE_EXCEEDED, _deadline_words(job, result)
    if result is not None:
        return _camel(result.reason), result.message[:MESSAGE_LIMIT]
    refusal = _first(refused_source, pods)
    if refusal:
        return Reason.SOURCE_UNUSABLE, refusal
    words = _first(pod_trouble, pods)
    if words:
        return "JobFailed", words
    reason = str(condition.get("reason") or "JobFailed")
    return _camel(reason), str(condition.get("message") or reason)[:MESSAGE_LIMIT]


def _deadline_words(job: Raw, result: StageResult | None) -> str:
    """The same whether its pods are still there or gone: what they say of it is only that they were stopped."""
    seconds = job.get("spec", {}).get("activeDeadlineSeconds")
    limit = "" if seconds is None else f" of {seconds}"
    said = f"; the stage said: {result.message}" if result is not None and result.message else ""
    text = (
        f"the Job ran longer than its activeDeadlineSeconds{limit}, the wait for a node included:"
        f" raise that field, or give it less to do{said}"
    )
    return text[:MESSAGE_LIMIT]


def _camel(reason: str) -> str:
    return reason if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", reason) else "JobFailed"


def _deployment_state(deployment: Raw, pods: list[Raw]) -> DeploymentState:
    metadata, spec, status = deployment["metadata"], deployment.get("spec", {}), deployment.get("status", {})
    annotations = metadata.get("annotations", {})
    replicas, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    seen = status.get("observedGeneration", 0) >= metadata.get("generation", 1)
    serving = [pod for pod in pods if _label(pod, names.COMPONENT_LABEL) == names.SERVE and not _is_over(pod)]
    of_version, refused = _of_version(serving, annotations), _refused_pods(status)
    return DeploymentState(
        serving_fingerprint=annotations.get(names.SERVING_FINGERPRINT, ""),
        model_fingerprint=annotations.get(names.MODEL_FINGERPRINT, ""),
        replicas=replicas,
        ready_replicas=status.get("readyReplicas", 0),
        rolled_out=seen and updated == replicas,
        trouble=_first(pod_trouble, serving) or refused,
        waits_for=_first(pod_delay, serving),
        image_id=_image_id(of_version, names.SERVE),
        failure=_stalled(status, of_version, refused) if seen else "",
        failed_fingerprint=annotations.get(names.FAILED_FINGERPRINT, ""),
        failed_message=annotations.get(names.FAILED_MESSAGE, ""),
        wanted_replicas=spec.get("replicas", 1),
        gpus=sum(map(_gpus, spec.get("template", {}).get("spec", {}).get("containers", []))),
        lacks_gpu=any(map(lacks_gpu, serving)),
        handed_to=annotations.get(names.HANDED_TO, ""),
    )


def _is_over(pod: Raw) -> bool:
    """Whether a pod is only what is left of one: a ReplicaSet replaces an evicted pod and leaves it there for hours."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def _first(words: Callable[[Raw], str], pods: Iterable[Raw]) -> str:
    """What the first pod says that says something."""
    return next(filter(None, map(words, pods)), "")


def _refused_pods(status: Raw) -> str:
    """Why the cluster does not let the Deployment make its pods, as by a quota; empty when it does."""
    for condition in _true(status.get("conditions", [])):
        if condition["type"] == "ReplicaFailure":
            text = f"pods are refused ({condition.get('reason', '')}): {condition.get('message', '')}"
            return text[:MESSAGE_LIMIT]
    return ""


def _gpus(container: Raw) -> int:
    return int(container.get("resources", {}).get("limits", {}).get(names.GPU_RESOURCE, 0))


def _of_version(pods: list[Raw], annotations: Raw) -> list[Raw]:
    """The pods of the version that the Deployment's annotations name, and those that name none."""
    wanted = annotations.get(names.SERVING_FINGERPRINT)
    versions = [pod["metadata"].get("annotations", {}).get(names.SERVING_FINGERPRINT, wanted) for pod in pods]
    return [pod for pod, version in zip(pods, versions, strict=True) if version == wanted]


def _stalled(status: Raw, pods: list[Raw], refused: str) -> str:
    """Why the roll-out made no progress in its deadline, by the version's own `pods`; empty while it may still."""
    for condition in status.get("conditions", []):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            words = _first(pod_trouble, pods) or refused or _first(pod_delay, pods)
            return words or str(condition.get("message", "no progress within the deadline"))
    return ""
