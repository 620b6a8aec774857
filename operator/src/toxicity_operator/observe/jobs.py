"""Reads a stage Job and its pods from raw objects. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from toxicity_api.base import read_document
from toxicity_api.conditions import Reason
from toxicity_api.results import EXIT_INVALID_INPUT, StageResult
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.capacity import EXCEEDED_QUOTA, awaits_capacity
from toxicity_operator.observe.containers import refused_source, running_sidecars, stage_container
from toxicity_operator.observe.objects import (
    ReadContext,
    condition,
    first_message,
    has_ended,
    image_id,
    is_owned_by,
    label,
)
from toxicity_operator.observe.pods import awaits_events, has_settled, is_new, lacks_gpu, pod_delay, pod_trouble
from toxicity_operator.observe.remedies import MESSAGE_LIMIT, fields_of, with_remedy

JobOutcome = Literal["Running", "Succeeded", "Failed"]
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Reason that Kubernetes sets on a Job that exceeded its activeDeadlineSeconds."""


@dataclass(frozen=True)
class JobState:
    """A stage Job and the result of its pods. Text fields are empty if there is nothing to report.

    `reason` and `message` describe a failure, or what the Job waits for. `running_pod`: the pod whose stage container
    runs. `lacks_gpu`: a pod is unschedulable for lack of GPUs. `held_by_sidecar`: the stage has ended, but another
    container keeps the pod and the Job running. `events_uid`: the uid of the object whose Events are needed to explain
    the wait. `is_settling`: the Job or pod is too new to tell what it waits for. `lost_pod`: no pod of the Job is left.
    `image` is the image of the stage container in the Job. `image_id` and `init_image_ids` are the pulled images.
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
    held_by_sidecar: bool = False
    events_uid: str = ""
    is_settling: bool = False


def read_job(job: Raw, pods: list[Raw], context: ReadContext) -> JobState:
    """The state of a Job. `pods` may contain pods of other Jobs, which are ignored."""
    name, component, status = job["metadata"]["name"], label(job, names.COMPONENT_LABEL), job.get("status", {})
    end = finished_condition(status)
    own = sorted(
        (pod for pod in pods if is_owned_by(pod, job)),
        key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")),
        reverse=True,
    )
    outcome: JobOutcome = "Running" if end is None else "Succeeded" if end["type"] == "Complete" else "Failed"
    kept = _kept_outcome(job, own) if end is None else None
    outcome = kept or outcome
    result = _stage_result(own, component, outcome)
    reason, message = _wait_reason(job, own, context), _wait_message(job, own, context)
    if outcome == "Failed":
        reason, message = _failure(job, end or {}, own, result)
    is_waiting = outcome == "Running" and reason != Reason.SUSPENDED
    return JobState(
        name=name,
        component=component,
        fingerprint=label(job, names.FINGERPRINT_LABEL),
        outcome=outcome,
        reason=reason,
        message=message,
        started_at=status.get("startTime"),
        finished_at=_kept_end(own)
        if kept
        else status.get("completionTime") or (end or {}).get("lastTransitionTime"),
        result=result,
        running_pod=_running_pod(own, component) if outcome == "Running" else "",
        image_id=image_id(own, component),
        lacks_gpu=any(map(lacks_gpu, own)),
        lost_pod=not own,
        image=_image(job, component),
        init_image_ids=_init_image_ids(own),
        held_by_sidecar=kept is not None,
        events_uid=_events_uid(job, own, context) if is_waiting else "",
        is_settling=is_waiting and _is_settling(job, own, context),
    )


def _kept_outcome(job: Raw, pods: list[Raw]) -> JobOutcome | None:
    """The outcome of a stage whose pod is kept running by a sidecar; None for any other Job.

    A failed stage with retries left has no outcome yet. The message of its pod says that the sidecar blocks the retry.
    """
    if not any(map(running_sidecars, pods)):
        return None
    spec, failed_before = job.get("spec", {}), int(job.get("status", {}).get("failed", 0))
    stages = (stage_container(pod) for pod in pods)
    codes = [int(ended["exitCode"]) for stage in stages if stage and (ended := stage.terminated)]
    wanted, well, badly = spec.get("completions", 1), codes.count(0), len(codes) - codes.count(0)
    if well >= wanted:
        return "Succeeded"
    if spec.get("completionMode") == "Indexed":
        return "Failed" if well + badly >= wanted else None
    kept = sum(1 for pod in pods if running_sidecars(pod))
    is_final = EXIT_INVALID_INPUT in codes or failed_before + kept > spec.get("backoffLimit", 6)
    return "Failed" if is_final else None


def _kept_end(pods: list[Raw]) -> str | None:
    """When the last stage container terminated."""
    stages = (stage_container(pod) for pod in pods)
    ends = [str(ended.get("finishedAt") or "") for stage in stages if stage and (ended := stage.terminated)]
    return max(ends, default="") or None


def _is_suspended(job: Raw) -> bool:
    return bool(job.get("spec", {}).get("suspend"))


def _wait_reason(job: Raw, pods: list[Raw], context: ReadContext) -> str:
    """`Suspended` for a suspended Job, `WaitingForCapacity` if no pod can start for lack of capacity; else empty."""
    if _is_suspended(job):
        return str(Reason.SUSPENDED)
    rejected = EXCEEDED_QUOTA in context.events.get(str(job["metadata"]["uid"]), "") and _misses_pods(
        job.get("status", {})
    )
    left = [pod for pod in pods if not has_ended(pod)]
    waits = bool(left) and all(awaits_capacity(pod, context) for pod in left)
    return str(Reason.WAITING_FOR_CAPACITY) if waits or (rejected and not pods) else ""


def _wait_message(job: Raw, pods: list[Raw], context: ReadContext) -> str:
    """What an unfinished Job waits for, from its newest pod, or from the Job if it has no pod."""
    status, name = job.get("status", {}), job["metadata"]["name"]
    if _is_suspended(job):
        return _suspended_message(job)
    if pods:
        message = pod_trouble(pods[0], context) or pod_delay(pods[0], context) or _ending_message(status, context)
        return message + _sidecar_message(pods[0])
    if not status.get("startTime"):
        return _untouched_message(job, context)
    if not _misses_pods(status):
        return _ending_message(status, context)
    reported, hint = context.events.get(str(job["metadata"]["uid"]), ""), f"see kubectl describe job {name}"
    return (
        with_remedy(f"it has no pod yet: {reported}", fields_of(job), hint)
        if reported
        else f"it has no pod yet; {hint}"
    )


def _misses_pods(status: Raw) -> bool:
    """Whether the Job controller has started the Job but created no pod. It reports the reason only in Events."""
    # `active` counts pods that the cache may not have yet; these conditions mean that the Job ends or is suspended
    kinds = ("FailureTarget", "SuccessCriteriaMet", "Suspended")
    ends = any(condition(status, kind) for kind in kinds) or finished_condition(status) is not None
    return bool(status.get("startTime")) and not status.get("active") and not ends


def _events_uid(job: Raw, pods: list[Raw], context: ReadContext) -> str:
    """The uid of the Job or pod whose Events are needed; empty if there is none, or if it is too early to ask."""
    if not pods:
        return str(job["metadata"]["uid"]) if _misses_pods(job.get("status", {})) else ""
    is_due = awaits_events(pods[0]) and has_settled(pods[0], context) and not pod_trouble(pods[0], context)
    return str(pods[0]["metadata"].get("uid", "")) if is_due else ""


def _is_settling(job: Raw, pods: list[Raw], context: ReadContext) -> bool:
    """Whether the Job or its pod is so new that another pass soon may find more."""
    if pods:
        return is_new(pods[0], context)
    untouched = not job.get("status", {}).get("startTime")
    return untouched and context.is_recent(job["metadata"].get("creationTimestamp"))


def _suspended_message(job: Raw) -> str:
    name, queue = job["metadata"]["name"], label(job, names.QUEUE_LABEL)
    if queue:
        return f"is suspended by Kueue until queue {queue} admits it; see kubectl describe workloads"
    return (
        "is suspended (spec.suspend of the Job is true), so it has no pods; if no queueing system resumes it, run:"
        f""" kubectl patch job {name} --type=merge -p '{{"spec":{{"suspend":false}}}}'"""
    )


def _untouched_message(job: Raw, context: ReadContext) -> str:
    """The message for a Job that its controller has not processed."""
    manager = job.get("spec", {}).get("managedBy", "")
    if manager and manager != "kubernetes.io/job-controller":
        return f"it is managed by {manager} (spec.managedBy of the Job), which has not started it; see its log"
    if context.has_elapsed(job["metadata"].get("creationTimestamp")):
        return "the Job controller has not processed it; check that kube-controller-manager runs"
    return ""


def _sidecar_message(pod: Raw) -> str:
    """The message for a failed stage that is not retried, because a sidecar keeps its pod running."""
    keepers, name = ", ".join(running_sidecars(pod)), pod["metadata"]["name"]
    if not keepers:
        return ""
    return (
        f"; container {keepers} keeps the pod running, so the Job does not retry; run kubectl delete pod {name},"
        " and exclude the pods of Jobs from the service mesh's injection"
    )


def _ending_message(status: Raw, context: ReadContext) -> str:
    """The message for a Job whose outcome is decided while its pods still terminate."""
    for kind, word in (("FailureTarget", "has failed"), ("SuccessCriteriaMet", "has succeeded")):
        found = condition(status, kind)
        if found is not None and context.has_elapsed(found.get("lastTransitionTime")):
            said = found.get("message") or found.get("reason", "")
            return f"it {word} ({said}) and waits until its pods have terminated; see kubectl get pods"
    return ""


def finished_condition(status: Raw) -> Raw | None:
    """The true condition Complete or Failed of a Job; None if the Job has not finished."""
    conditions = status.get("conditions", [])
    return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)


def _running_pod(pods: list[Raw], component: str) -> str:
    """The newest pod whose stage container runs and so has a log; empty if there is none."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            if container["name"] == component and container.get("state", {}).get("running"):
                return str(pod["metadata"]["name"])
    return ""


def _stage_result(pods: list[Raw], component: str, outcome: JobOutcome) -> StageResult | None:
    """The newest result document with the outcome of the Job. A pod that failed before a retry is ignored."""
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
    """Reason and message of a failed Job: from the deadline, else the result, a container or the Job."""
    if condition.get("reason") == DEADLINE_EXCEEDED:
        return DEADLINE_EXCEEDED, _deadline_message(job, result)
    if result is not None:
        return _camel(result.reason), result.message[:MESSAGE_LIMIT]
    refusal = first_message(refused_source, pods)
    if refusal:
        return Reason.SOURCE_UNUSABLE, refusal
    message = first_message(pod_trouble, pods)
    if message:
        return "JobFailed", message
    reason = str(condition.get("reason") or "JobFailed")
    return _camel(reason), str(condition.get("message") or reason)[:MESSAGE_LIMIT]


def _deadline_message(job: Raw, result: StageResult | None) -> str:
    """The message for an exceeded deadline. It ignores the pods, which only report that they were stopped."""
    seconds = job.get("spec", {}).get("activeDeadlineSeconds")
    limit = "" if seconds is None else f" of {seconds}"
    said = f"; the stage reported: {result.message}" if result is not None and result.message else ""
    text = (
        f"the Job exceeded its activeDeadlineSeconds{limit}, which include the wait for a node;"
        f" raise that field, or reduce the work of the stage{said}"
    )
    return text[:MESSAGE_LIMIT]


def _camel(reason: str) -> str:
    return reason if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", reason) else "JobFailed"


def _image(job: Raw, component: str) -> str:
    """The image of the stage container in the Job."""
    containers = job.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return next((str(item["image"]) for item in containers if item["name"] == component), "")


def _init_image_ids(pods: list[Raw]) -> dict[str, str]:
    """The pulled image by init container, from the newest pod that has started it."""
    found: dict[str, str] = {}
    for pod in reversed(pods):
        for container in pod.get("status", {}).get("initContainerStatuses", []):
            if container.get("imageID"):
                found[container["name"]] = str(container["imageID"])
    return found
