"""Derives the operator's part of the status from the spec, the records and the world as it was seen. Pure.

`loadTest` belongs to the load test, which writes it itself; it is never part of what is derived here.
"""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.conditions import Condition, ConditionType, Reason, set_condition
from toxicity_api.crd import STRING_LIMIT
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.progress import progress_text
from toxicity_api.results import EngineFigures
from toxicity_api.spec.serving import Autoscaling
from toxicity_api.status import (
    EvaluationStatus,
    ServingStatus,
    StageRecord,
    ToxicityModelStatus,
    TrainingStatus,
)
from toxicity_operator import names
from toxicity_operator.handover import advice
from toxicity_operator.lineage import derive_lineage
from toxicity_operator.manifests.autoscaler import SCALERS, in_flight_query
from toxicity_operator.model import Identity, Model
from toxicity_operator.observed import DeploymentState
from toxicity_operator.rollout import Failure
from toxicity_operator.schedule import schedule_in_force
from toxicity_operator.stages import Situation

UNKNOWN = "Unknown"
SLOWER = 0.95
"""Share of the unquantized weights' speed below which quantization is said to be slower."""


NO_KEDA = (
    "the cluster has no KEDA (no ScaledObject of keda.sh/v1alpha1), so nothing scales by requests in flight: install"
    " KEDA, or set serving.autoscaling.metric: cpu"
)


@dataclass(frozen=True)
class Finding:
    """A condition's content, before it gets its generation and its time."""

    status: str
    reason: str
    message: str


def derive_status(situation: Situation, now: str, failure: str | None = None) -> ToxicityModelStatus:
    """The status as it should be now (RFC 3339); `failure` is what went wrong while applying the plan."""
    records, model = situation.records, situation.model
    ready, stage = _ready(situation)
    if failure:
        ready = _with_failure(situation, ready, failure)
    findings = {
        ConditionType.TRAINED: _trained(situation),
        ConditionType.QUANTIZED: _quantized(situation),
        ConditionType.EVALUATED: _evaluated(situation),
        ConditionType.QUALITY_ACCEPTED: _quality(situation),
        ConditionType.AVAILABLE: _available(situation),
        ConditionType.SCALABLE: _scalable(situation),
        ConditionType.LOAD_TESTED: _load_tested(situation),
        ConditionType.READY: ready,
    }
    return ToxicityModelStatus(
        observed_generation=model.identity.generation,
        stage=stage,
        conditions=_conditions(model.status.conditions, findings, model.identity.generation, now),
        training=records.training,
        quantization=records.quantization,
        evaluation=records.evaluation,
        serving=_serving(situation),
        load_test_job=records.load_test,
        load_test_schedule=schedule_in_force(model.spec.load_test, model.status.load_test_schedule, now),
        lineage=derive_lineage(situation),
    )


def _with_failure(situation: Situation, ready: Finding, failure: str) -> Finding:
    """Ready follows the pods: what could not be applied denies it only where it stands in the way to them."""
    if ready.status == "True" and situation.observed.has("Service", names.serving_name(situation.model.name)):
        return Finding("True", ready.reason, f"{ready.message}; not everything could be applied: {failure}")
    return Finding("False", Reason.APPLY_FAILED, failure)


def derive_invalid(identity: Identity, old: ToxicityModelStatus, problem: str, now: str) -> ToxicityModelStatus:
    """The status of a resource whose spec makes no sense: what was known stays, Ready says why not."""
    known = {condition.type for condition in old.conditions}
    fresh = Finding(UNKNOWN, Reason.INVALID_SPEC, "")
    findings = {kind: fresh for kind in ConditionType if kind not in known}
    findings[ConditionType.READY] = Finding("False", Reason.INVALID_SPEC, problem)
    return old.model_copy(
        update={
            "observed_generation": identity.generation,
            "stage": "InvalidSpec",
            "conditions": _conditions(old.conditions, findings, identity.generation, now),
            "load_test": None,
        }
    )


def own_part(status: ToxicityModelStatus) -> dict[str, object]:
    """The status document without what the load test owns, ready to apply or to compare."""
    return status.model_copy(update={"load_test": None}).to_wire()


def _conditions(
    old: list[Condition], findings: dict[ConditionType, Finding], generation: int, now: str
) -> list[Condition]:
    conditions = list(old)
    for kind, finding in findings.items():
        message = finding.message
        if len(message) > STRING_LIMIT:  # with more the API server would refuse the whole status
            message = f"{message[: STRING_LIMIT - 1]}…"
        fields = {"type": kind, "status": finding.status, "reason": finding.reason, "message": message}
        new = Condition.model_validate({**fields, "observedGeneration": generation, "lastTransitionTime": now})
        conditions = set_condition(conditions, new)
    order = [str(kind) for kind in ConditionType]
    return sorted(conditions, key=lambda condition: order.index(condition.type))


def _of_job(record: StageRecord | None, word: str) -> Finding:
    if record is None:
        return Finding(UNKNOWN, Reason.WAITING, f"{word} has not begun")
    if record.outcome == "Running":
        return Finding(UNKNOWN, Reason.RUNNING, _running(record))
    if record.outcome == "Failed":
        return Finding(
            "False", record.reason or Reason.JOB_FAILED, record.message or f"Job {record.job_name} failed"
        )
    return Finding("True", Reason.SUCCEEDED, f"Job {record.job_name} succeeded")


def _of_stage(situation: Situation, record: StageRecord | None, word: str) -> Finding:
    """Of a stage that may ask for GPUs: with what to do where none is free."""
    finding = _of_job(record, word)
    job = situation.observed.jobs_by_name.get(record.job_name) if record else None
    if finding.reason != Reason.RUNNING or job is None or not job.lacks_gpu:
        return finding
    hint = advice(situation.model.spec, situation.observed)
    return Finding(UNKNOWN, Reason.WAITING_FOR_GPU, finding.message + hint)


def _trained(situation: Situation) -> Finding:
    return _of_stage(situation, situation.records.training, "training")


def _running(record: StageRecord) -> str:
    """What a running stage waits for; else how far it is, if it says so."""
    if record.message:
        return f"Job {record.job_name} runs: {record.message}"
    if isinstance(record, TrainingStatus) and record.progress:
        return progress_text(record.progress)
    return f"Job {record.job_name} runs"


def _quantized(situation: Situation) -> Finding:
    if situation.chain.quantize is None:
        return Finding("False", Reason.SKIPPED, "spec.quantization.method is none")
    return _of_stage(situation, situation.records.quantization, "quantization")


def _evaluated(situation: Situation) -> Finding:
    record = situation.records.evaluation
    finding = _of_stage(situation, record, "evaluation")
    if record is None or finding.status != "True" or record.f1 is None or record.figures is None:
        return finding
    return Finding("True", Reason.SUCCEEDED, _measured(record, record.figures))


def _measured(record: EvaluationStatus, figures: EngineFigures) -> str:
    """F1 in the serving engine, and what quantization cost or brought there."""
    text = f"F1 {record.f1:.3f} in {record.engine}, {figures.texts_per_second:.1f} texts per second"
    before, drop = record.original_figures, record.drop
    if before is None or drop is None:
        return text
    speed = figures.texts_per_second / before.texts_per_second
    advice = "" if speed >= SLOWER else "; where speed counts more than memory, quantization.method none is faster"
    return (
        f"{text}; before quantization F1 {record.original_f1:.3f}, same decision on {drop.agreement:.1%} of the rows;"
        f" 4 bit runs {speed:.2f} times as fast here in {figures.memory_bytes / before.memory_bytes:.2f} times the"
        f" memory{advice}"
    )


def _quality(situation: Situation) -> Finding:
    verdict = situation.verdict
    word = {True: "True", False: "False", None: UNKNOWN}[verdict.accepted]
    return Finding(word, verdict.reason, verdict.message)


def _available(situation: Situation) -> Finding:
    deployment = situation.observed.deployment
    if deployment is None:
        return Finding("False", Reason.WAITING, "nothing is deployed yet")
    count = f"{deployment.ready_replicas} of {deployment.replicas} replicas ready"
    words = deployment.trouble or deployment.waits_for
    trouble = f"; {words}" if words else ""
    if deployment.lacks_gpu:
        trouble += advice(situation.model.spec, situation.observed)
    if deployment.ready_replicas > 0:
        return Finding("True", Reason.REPLICAS_READY, count + trouble)
    if deployment.handed_to:
        return Finding(
            "False", Reason.GPU_HANDED_OVER, f"no pod serves while Job {deployment.handed_to} has the GPU"
        )
    return Finding("False", Reason.NO_READY_REPLICAS, count + trouble)


def _scalable(situation: Situation) -> Finding:
    """Whether the autoscaler gets the metric that it scales by; without it nothing scales, and nothing else says so."""
    scaling, observed = situation.model.spec.serving.autoscaling, situation.observed
    if scaling is None:
        return Finding("False", Reason.SKIPPED, "spec.serving.autoscaling is not set")
    kind = SCALERS[scaling.metric][1]
    if kind in observed.missing_kinds:
        return Finding("False", Reason.KEDA_MISSING, NO_KEDA)
    if observed.deployment is not None and observed.deployment.handed_to:
        return Finding(UNKNOWN, Reason.WAITING, "nothing is scaled while no pod serves")
    state = observed.autoscalers.get(kind)
    if state is None or state.active is None:
        return Finding(UNKNOWN, Reason.WAITING, f"the autoscaler has not looked for {scaling.metric} yet")
    if state.active:
        return Finding("True", Reason.METRIC_AVAILABLE, f"the autoscaler gets {scaling.metric}")
    advice = _where_to_look(situation.model, scaling)
    text = f"the autoscaler does not get {scaling.metric}: {state.message}{advice}"
    return Finding("False", Reason.METRIC_MISSING, text)


def _where_to_look(model: Model, scaling: Autoscaling) -> str:
    if scaling.metric == "cpu":
        return ""
    return f"; ask the Prometheus at {scaling.prometheus_address} for {in_flight_query(model)}"


def _load_tested(situation: Situation) -> Finding:
    if situation.chain.loadtest is None:
        return Finding("False", Reason.SKIPPED, "spec.loadTest.enabled is false")
    finding = _of_job(situation.records.load_test, "load test")
    figures = situation.model.status.load_test
    if finding.status == "True" and figures is not None:
        return Finding("True", Reason.SUCCEEDED, _figures(figures))
    return finding


def _figures(figures: LoadTestStatus) -> str:
    reached = "no length" if figures.max_length_at_requested_rps is None else figures.max_length_at_requested_rps
    p95 = "none" if figures.p95_seconds is None else f"{figures.p95_seconds:.3f} s"
    if figures.mode == "search":
        text = f"{_found(figures)}, p95 {p95}, longest bucket that carries the rate asked for: {reached}"
    else:
        rps = "no" if figures.actual_rps is None else f"{figures.actual_rps:.2f}"
        text = (
            f"{rps} of {figures.requested_rps:g} requests per second reached, p95 {p95},"
            f" longest bucket within the objective: {reached}"
        )
    return text + _limited_by(figures)


def _found(figures: LoadTestStatus) -> str:
    """What a search found; requestedRps is only where it began."""
    rates = [each.max_rps_within_slo for each in figures.buckets if each.max_rps_within_slo is not None]
    if not any(rates):
        return "no rate that was tried stayed within the objective"
    least, most = f"{min(rates):.2f}", f"{max(rates):.2f}"
    text = (
        f"{most} requests per second" if least == most else f"{least} to {most} requests per second by text length"
    )
    mix = figures.conclusions
    per_replica = f" and {mix.mixed_rps_per_replica:.2f} of the mix per replica" if mix else ""
    return f"within the objective {text}{per_replica}"


def _limited_by(figures: LoadTestStatus) -> str:
    """Why less was offered than asked for, where it was."""
    if figures.generator_saturated:
        return "; the load generator was the limit"
    return "; all users waited for the service, so less was offered" if figures.users_exhausted else ""


def _serving(situation: Situation) -> ServingStatus | None:
    deployment, old = situation.observed.deployment, situation.model.status.serving
    if deployment is None:
        return None
    served = old.model_fingerprint if old else None
    if deployment.rolled_out and deployment.ready_replicas > 0:
        served = deployment.model_fingerprint
    failure = situation.failed_version
    return ServingStatus(
        image_id=deployment.image_id or (old.image_id if old else None),
        good_fingerprint=situation.good_version,
        failed_fingerprint=failure.fingerprint if failure else None,
        failed_message=failure.message if failure else None,
        url=names.service_url(situation.model.name, situation.model.namespace),
        replicas=deployment.replicas,
        ready_replicas=deployment.ready_replicas,
        model_fingerprint=served,
    )


def _ready(situation: Situation) -> tuple[Finding, str]:
    """Ready follows the pods: it is True while what the spec asks for answers. With it, the stage in one word."""
    blocked = _blocked(situation)
    if blocked is not None:
        return _paused(*blocked) if situation.model.spec.paused else blocked
    available = _available(situation)
    if situation.failed_version is not None and not situation.serves_current:
        return _given_up(situation, situation.failed_version)
    if not situation.serves_current:
        deployment = situation.observed.deployment
        if deployment is not None and deployment.lacks_gpu:
            return Finding("False", Reason.WAITING_FOR_GPU, available.message), "Deploying"
        unavailable = available.reason == Reason.NO_READY_REPLICAS and bool(_trouble(situation))
        reason = Reason.NO_READY_REPLICAS if unavailable else Reason.ROLLING_OUT
        return Finding("False", reason, available.message), "Unavailable" if unavailable else "Deploying"
    test = _load_tested(situation)
    if test.status == "True" or test.reason == Reason.SKIPPED:
        return Finding("True", Reason.ALL_STAGES_DONE, available.message), "Ready"
    if test.status == "False":
        return Finding("True", Reason.REPLICAS_READY, f"the load test failed: {test.message}"), "LoadTestFailed"
    return Finding("True", Reason.REPLICAS_READY, f"{available.message}; the load test is not done"), "LoadTesting"


def _paused(finding: Finding, stage: str) -> tuple[Finding, str]:
    if finding.reason != Reason.WAITING:
        return finding, stage  # what runs goes on, what failed stays failed
    return Finding("False", Reason.PAUSED, f"spec.paused is true; {finding.message}"), "Paused"


def _given_up(situation: Situation, failure: Failure) -> tuple[Finding, str]:
    seconds = situation.model.spec.serving.progress_deadline_seconds
    text = f"version {failure.fingerprint} did not become ready within {seconds} s: {failure.message}"
    good = situation.good_version
    if good is None:
        return Finding("False", Reason.ROLL_OUT_FAILED, f"{text}; there is no earlier version"), "RollOutFailed"
    restored = f"{text}; version {good} was restored, and this one is not tried again until the spec changes"
    return Finding("False", Reason.ROLLED_BACK, restored), "RolledBack"


def _blocked(situation: Situation) -> tuple[Finding, str] | None:
    """What comes before serving and is not done, as Ready says it and in one word; None when all is done."""
    steps = [(_trained(situation), "Training", "TrainingFailed")]
    refused = (_quality(situation), "QualityUndecided", "QualityRefused")
    if situation.verdict.accepted is False:
        steps.append(refused)
    if situation.chain.quantize:
        steps.append((_quantized(situation), "Quantizing", "QuantizationFailed"))
    steps += [(_evaluated(situation), "Evaluating", "EvaluationFailed"), refused]
    note = _meanwhile(situation.observed.deployment)
    for finding, running, failed in steps:
        if finding.status != "True":
            word = failed if finding.status == "False" else running
            return Finding("False", finding.reason, finding.message + note), word
    return None


def _meanwhile(deployment: DeploymentState | None) -> str:
    """What becomes of the version before while the next one is not ready."""
    if deployment is None:
        return ""
    if deployment.ready_replicas > 0:
        return "; the version before keeps serving"
    return "; the version before has made room for it and does not serve" if deployment.handed_to else ""


def _trouble(situation: Situation) -> str:
    deployment = situation.observed.deployment
    return deployment.trouble if deployment else ""
