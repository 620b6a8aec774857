"""A stage Job and its pods, read from the raw objects once. Pure."""

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
from toxicity_operator.observe.containers import refused_source, running_sidecars, stage_container
from toxicity_operator.observe.objects import ReadContext, condition, first_message, image_id, is_owned_by, label
from toxicity_operator.observe.pods import awaits_events, has_settled, is_new, lacks_gpu, pod_delay, pod_trouble
from toxicity_operator.observe.remedies import MESSAGE_LIMIT, fields_of, with_remedy

JobOutcome = Literal["Running", "Succeeded", "Failed"]
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Kubernetes' own reason of a Job that ran longer than its activeDeadlineSeconds."""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class JobState:
    """A stage Job and what its newest telling pod said. `running_pod`: the one whose stage container runs, or "".

    `reason` is that of a failure, or of a wait which has one of its own. `lacks_gpu`: a pod of it waits, since no
    node has as many GPUs free as it asks for. `lingers`: the stage has ended, but another container keeps the pod,
    and so the Job, running. `asks`: the uid of what only Events say more about, or ""; `settles`: it is too new to
    say what it waits for. `lost_pod`: no pod of it is left that could tell how it ended, as when its node was removed.
    `image` is that of the stage's container, `init_image_ids` what the node pulled for its init containers, by name.
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
    """The state of a Job; `pods` may hold those of others."""
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
    reason, message = _wait_reason(job), _wait_message(job, own, context)
    if outcome == "Failed":
        reason, message = _failure(job, end or {}, own, result)
    is_waiting = outcome == "Running" and not reason
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
    """How the stage of a Job has ended whose pod another container keeps running; None of any other Job.

    A stage that failed and may be tried again has not ended: that the Job cannot do so is in the words of its pod.
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
    """When the last stage container ended."""
    stages = (stage_container(pod) for pod in pods)
    ends = [str(ended.get("finishedAt") or "") for stage in stages if stage and (ended := stage.terminated)]
    return max(ends, default="") or None


def _wait_reason(job: Raw) -> str:
    """The reason of a wait that has one of its own; empty of any other."""
    return str(Reason.SUSPENDED) if job.get("spec", {}).get("suspend") else ""


def _wait_message(job: Raw, pods: list[Raw], context: ReadContext) -> str:
    """What a Job that has not ended waits for, by its newest pod, or by its controller where there is none."""
    status, name = job.get("status", {}), job["metadata"]["name"]
    if _wait_reason(job):
        return _suspended_message(job)
    if pods:
        words = pod_trouble(pods[0], context) or pod_delay(pods[0], context) or _ending_message(status, context)
        return words + _keeper_message(pods[0])
    if not status.get("startTime"):
        return _untouched_message(job, context)
    if not _misses_pods(status):
        return _ending_message(status, context)
    told, look = context.events.get(str(job["metadata"]["uid"]), ""), f"kubectl describe job {name} says why"
    return (
        with_remedy(f"it has no pod yet: {told}", fields_of(job), look) if told else f"it has no pod yet: {look}"
    )


def _misses_pods(status: Raw) -> bool:
    """Whether the Job controller was to make pods and has made none: it says why only in Events."""
    # `active` counts pods that the mirror may not have yet; a true condition is a Job that ends or is suspended
    kinds = ("FailureTarget", "SuccessCriteriaMet", "Suspended")
    ends = any(condition(status, kind) for kind in kinds) or finished_condition(status) is not None
    return bool(status.get("startTime")) and not status.get("active") and not ends


def _events_uid(job: Raw, pods: list[Raw], context: ReadContext) -> str:
    """The uid of what only Events say more about; empty when there is nothing to ask, or it is too early."""
    if not pods:
        return str(job["metadata"]["uid"]) if _misses_pods(job.get("status", {})) else ""
    is_due = awaits_events(pods[0]) and has_settled(pods[0], context) and not pod_trouble(pods[0], context)
    return str(pods[0]["metadata"].get("uid", "")) if is_due else ""


def _is_settling(job: Raw, pods: list[Raw], context: ReadContext) -> bool:
    """Whether the Job or its pod is so new that a look soon after this one may say more."""
    if pods:
        return is_new(pods[0], context)
    untouched = not job.get("status", {}).get("startTime")
    return untouched and context.is_recent(job["metadata"].get("creationTimestamp"))


def _suspended_message(job: Raw) -> str:
    name, queue = job["metadata"]["name"], label(job, QUEUE_LABEL)
    if queue:
        return (
            f"is suspended by Kueue until queue {queue} admits it: kubectl describe workloads says what is missing"
        )
    return (
        "is suspended (spec.suspend of the Job is true), so that no pod of it runs: unless a queueing system lifts"
        f""" that, kubectl patch job {name} --type=merge -p '{{"spec":{{"suspend":false}}}}'"""
    )


def _untouched_message(job: Raw, context: ReadContext) -> str:
    """That whoever is to run the Job has not looked at it yet."""
    manager = job.get("spec", {}).get("managedBy", "")
    if manager and manager != "kubernetes.io/job-controller":
        return (
            f"{manager} is to run it (spec.managedBy of the Job) and has not begun: see the log of that controller"
        )
    if context.has_elapsed(job["metadata"].get("creationTimestamp")):
        return "the Job controller has not looked at it: see whether kube-controller-manager runs"
    return ""


def _keeper_message(pod: Raw) -> str:
    """That a stage which has failed is not tried again, because another container keeps the pod running."""
    keepers, name = ", ".join(running_sidecars(pod)), pod["metadata"]["name"]
    if not keepers:
        return ""
    return (
        f"; container {keepers} keeps the pod running, so that the Job does not try again: kubectl delete pod {name},"
        " and keep the service mesh from adding that container to the pods of Jobs"
    )


def _ending_message(status: Raw, context: ReadContext) -> str:
    """What a Job whose end is decided waits for."""
    for kind, word in (("FailureTarget", "has failed"), ("SuccessCriteriaMet", "has succeeded")):
        found = condition(status, kind)
        if found is not None and context.has_elapsed(found.get("lastTransitionTime")):
            said = found.get("message") or found.get("reason", "")
            return f"it {word} ({said}) and ends when the last of its pods has ended: kubectl get pods shows them"
    return ""


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
        return DEADLINE_EXCEEDED, _deadline_message(job, result)
    if result is not None:
        return _camel(result.reason), result.message[:MESSAGE_LIMIT]
    refusal = first_message(refused_source, pods)
    if refusal:
        return Reason.SOURCE_UNUSABLE, refusal
    words = first_message(pod_trouble, pods)
    if words:
        return "JobFailed", words
    reason = str(condition.get("reason") or "JobFailed")
    return _camel(reason), str(condition.get("message") or reason)[:MESSAGE_LIMIT]


def _deadline_message(job: Raw, result: StageResult | None) -> str:
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
