"""Derives the condition Ready and `status.stage`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from toxicity_api.conditions import ConditionType, Reason
from toxicity_operator import names
from toxicity_operator.decide.conditions import Finding
from toxicity_operator.decide.rollout import Failure
from toxicity_operator.decide.snapshot import Snapshot
from toxicity_operator.errors import ClusterError, NotOurs
from toxicity_operator.observe.deployment import DeploymentState

Findings = Mapping[ConditionType, Finding]

MEASURE_AGAIN = (
    "to measure it once more, set loadTest.runId to a new value; to serve it, set loadTest.onRegression: Report; or"
    " change the spec to try another version"
)


def derive_ready(snapshot: Snapshot, findings: Findings, failure: ClusterError | None) -> tuple[Finding, str]:
    """The condition Ready and `status.stage`. `failure` is the error of this pass while it applied the plan."""
    ready, stage = _of_stages(snapshot, findings)
    return (_with_failure(ready, failure) if failure else ready), stage


def _of_stages(snapshot: Snapshot, findings: Findings) -> tuple[Finding, str]:
    """Ready and `status.stage` without errors of this pass. Ready is True while pods of the current spec are ready."""
    blocked = _blocked(snapshot, findings)
    if blocked is not None:
        return _paused(*blocked) if snapshot.model.spec.paused else blocked
    available = findings[ConditionType.AVAILABLE]
    if snapshot.failed_version is not None and not snapshot.serves_current:
        return _rolled_back(snapshot, snapshot.failed_version)
    if not snapshot.serves_current:
        deployment = snapshot.observed.deployment
        if deployment is not None and deployment.lacks_gpu:
            return Finding("False", Reason.WAITING_FOR_GPU, available.message), "Deploying"
        if deployment is not None and deployment.wanted_replicas == 0 and not deployment.handed_to:
            return Finding("False", Reason.STOPPED, available.message), "Stopped"
        if deployment is not None and deployment.is_paused:
            return Finding("False", Reason.DEPLOYMENT_PAUSED, available.message), "Deploying"
        if deployment is not None and deployment.version == snapshot.good_version and deployment.ready_replicas:
            stage = "Degraded" if _trouble(snapshot) else "Scaling"
            return Finding("False", Reason.REPLICAS_NOT_READY, available.message), stage
        if deployment is not None and deployment.awaits_capacity:
            return Finding("False", Reason.WAITING_FOR_CAPACITY, available.message), "Deploying"
        unavailable = available.reason == Reason.NO_READY_REPLICAS and bool(_trouble(snapshot))
        reason = Reason.NO_READY_REPLICAS if unavailable else Reason.ROLLING_OUT
        return Finding("False", reason, available.message), "Unavailable" if unavailable else "Deploying"
    return _of_ready_pods(snapshot, findings)


def _of_ready_pods(snapshot: Snapshot, findings: Findings) -> tuple[Finding, str]:
    """Ready and `status.stage` while the pods of the current spec are ready.

    A refused route makes Ready False. A route that no controller has answered does not: some ingress controllers never
    report an address.
    """
    available = findings[ConditionType.AVAILABLE]
    if not snapshot.observed.has("Service", names.serving_name(snapshot.model.name)):
        missing = Finding(
            "False",
            Reason.WAITING,
            f"{available.message}; the Service does not exist or is not owned by this resource",
        )
        return _paused(missing, "Deploying") if snapshot.model.spec.paused else (missing, "Deploying")
    exposed = findings[ConditionType.EXPOSED]
    if exposed.status == "False":
        return Finding("False", exposed.reason, f"{available.message}; {exposed.message}"), "NotExposed"
    test = findings[ConditionType.LOAD_TESTED]
    if test.status == "True":
        return Finding("True", Reason.ALL_STAGES_DONE, available.message), "Ready"
    if test.status == "False":
        return Finding("True", Reason.REPLICAS_READY, f"the load test failed: {test.message}"), "LoadTestFailed"
    return Finding(
        "True", Reason.REPLICAS_READY, f"{available.message}; the load test has not finished"
    ), "LoadTesting"


def _paused(finding: Finding, stage: str) -> tuple[Finding, str]:
    if finding.reason != Reason.WAITING:
        return finding, stage  # a running stage continues, and a failed stage stays failed
    return Finding("False", Reason.PAUSED, f"spec.paused is true; {finding.message}"), "Paused"


def _rolled_back(snapshot: Snapshot, failure: Failure) -> tuple[Finding, str]:
    seconds, observed = snapshot.model.spec.serving.progress_deadline_seconds, snapshot.observed
    text, good = failure.describe(f" within {seconds} s"), snapshot.good_version
    if good is None or good not in observed.templates:
        missing = f"the ReplicaSet of the last good version {good} no longer exists"
        why = "there is no earlier version to restore" if good is None else missing
        return Finding("False", Reason.ROLL_OUT_FAILED, f"{text}; {why}"), "RollOutFailed"
    remedy = MEASURE_AGAIN if failure.run else "change the spec to try another version"
    return Finding("False", Reason.ROLLED_BACK, f"{text}; version {good} was restored; {remedy}"), "RolledBack"


def _blocked(snapshot: Snapshot, findings: Findings) -> tuple[Finding, str] | None:
    """Ready and `status.stage` for the first stage before serving that has not succeeded; None if all have."""
    steps = [(findings[ConditionType.TRAINED], "Training", "TrainingFailed")]
    refused = (findings[ConditionType.QUALITY_ACCEPTED], "QualityUndecided", "QualityRefused")
    if snapshot.verdict.accepted is False:
        steps.append(refused)
    if snapshot.chain.quantize:
        steps.append((findings[ConditionType.QUANTIZED], "Quantizing", "QuantizationFailed"))
    steps += [(findings[ConditionType.EVALUATED], "Evaluating", "EvaluationFailed"), refused]
    note = _previous_version_note(snapshot.observed.deployment)
    for finding, running, failed in steps:
        if finding.status != "True":
            word = failed if finding.status == "False" else running
            return Finding("False", finding.reason, finding.message + note), word
    return None


def _previous_version_note(deployment: DeploymentState | None) -> str:
    """What the previous version does while the next one is not ready."""
    if deployment is None:
        return ""
    if deployment.ready_replicas > 0:
        return "; the previous version keeps serving"
    return "; the previous version is stopped to free its GPU" if deployment.handed_to else ""


def _trouble(snapshot: Snapshot) -> str:
    deployment = snapshot.observed.deployment
    return deployment.trouble if deployment else ""


def _with_failure(ready: Finding, failure: ClusterError) -> Finding:
    """Ready with the error of this pass. It stays True, unless another object has the name of one of ours.

    Without a Service, Ready is False before the error is considered.
    """
    if ready.status == "True" and not isinstance(failure, NotOurs):
        return Finding("True", ready.reason, f"{ready.message}; some objects could not be applied: {failure}")
    return Finding("False", failure.reason, str(failure))
