"""A stage Job and its pods, read from the raw objects once. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from toxicity_api.base import read_document
from toxicity_api.conditions import Reason
from toxicity_api.results import StageResult
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.objects import first_words, image_id, is_owned_by, label, true_conditions
from toxicity_operator.observe.pods import MESSAGE_LIMIT, lacks_gpu, pod_delay, pod_trouble, refused_source

JobOutcome = Literal["Running", "Succeeded", "Failed"]
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Kubernetes' own reason of a Job that ran longer than its activeDeadlineSeconds."""


@dataclass(frozen=True)
class JobState:
    """A stage Job and what its newest telling pod said. `running_pod`: the one whose stage container runs, or "".

    `lacks_gpu`: a pod of it waits, since no node has as many GPUs free as it asks for. `lost_pod`: no pod of it is left
    that could tell how it ended, as when its node was removed. `image` is that of the stage's container,
    `init_image_ids` what the node pulled for its init containers, by their names.
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
    lost_pod: bool = False
    image: str = ""
    init_image_ids: Mapping[str, str] = field(default_factory=dict)


def read_job(job: Raw, pods: list[Raw]) -> JobState:
    """The state of a Job; `pods` may hold those of others."""
    name, component, status = job["metadata"]["name"], label(job, names.COMPONENT_LABEL), job.get("status", {})
    end = finished_condition(status)
    own = sorted(
        (pod for pod in pods if is_owned_by(pod, job)),
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
        fingerprint=label(job, names.FINGERPRINT_LABEL),
        outcome=outcome,
        reason=reason,
        message=message,
        started_at=status.get("startTime"),
        finished_at=status.get("completionTime") or (end or {}).get("lastTransitionTime"),
        result=result,
        running_pod=_running_pod(own, component) if outcome == "Running" else "",
        image_id=image_id(own, component),
        lacks_gpu=any(map(lacks_gpu, own)),
        lost_pod=not own,
        image=_image(job, component),
        init_image_ids=_init_image_ids(own),
    )


def _wait_words(job: Raw, pods: list[Raw]) -> str:
    """What a Job that has not ended waits for, by its newest pod, or by its controller where there is none."""
    if pods:
        return pod_trouble(pods[0]) or pod_delay(pods[0])
    status, name = job.get("status", {}), job["metadata"]["name"]
    # `active` counts pods that the mirror may not have yet; a true condition is a Job that ends or is suspended
    if not status.get("startTime") or status.get("active") or any(true_conditions(status.get("conditions", []))):
        return ""
    return f"it has no pod yet: kubectl describe job {name} says why"


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
    refusal = first_words(refused_source, pods)
    if refusal:
        return Reason.SOURCE_UNUSABLE, refusal
    words = first_words(pod_trouble, pods)
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


def _image(job: Raw, component: str) -> str:
    """The image of the stage's container, as the Job names it."""
    containers = job.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return next((str(item["image"]) for item in containers if item["name"] == component), "")


def _init_image_ids(pods: list[Raw]) -> dict[str, str]:
    """By init container, the image that the node pulled, in the newest pod that has started it."""
    found: dict[str, str] = {}
    for pod in reversed(pods):
        for container in pod.get("status", {}).get("initContainerStatuses", []):
            if container.get("imageID"):
                found[container["name"]] = str(container["imageID"])
    return found
