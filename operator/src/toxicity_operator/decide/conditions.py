"""Derives the conditions of the status from a snapshot. Pure. `readiness.py` derives Ready."""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.conditions import ConditionType, Reason
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.progress import progress_text
from toxicity_api.results import EngineFigures
from toxicity_api.spec import Expose
from toxicity_api.spec.serving import Autoscaling
from toxicity_api.status import (
    EvaluationStatus,
    StageRecord,
    TrainingStatus,
)
from toxicity_operator import names
from toxicity_operator.chain import JobStage, quantization_image
from toxicity_operator.decide.handover import advice
from toxicity_operator.decide.records import succeeded
from toxicity_operator.decide.snapshot import Snapshot
from toxicity_operator.manifests.autoscaler import SCALERS, in_flight_query
from toxicity_operator.manifests.expose import HTTP_ROUTE, route_kind
from toxicity_operator.model import Model
from toxicity_operator.observe.exposure import RouteState
from toxicity_operator.observe.state import StagePod

UNKNOWN = "Unknown"
SLOWER = 0.95
"""The Evaluated message calls quantization slower if its throughput, relative to the original, is below this ratio."""

NO_KEDA = (
    "KEDA is not installed (the API server does not serve keda.sh/v1alpha1 ScaledObject), so nothing scales by requests"
    " in flight; install KEDA, or set serving.autoscaling.metric: cpu"
)

NO_GATEWAY_API = (
    "the Gateway API is not installed (the API server does not serve gateway.networking.k8s.io/v1 HTTPRoute, or the"
    " operator may not list it), so the service is not exposed; install the Gateway API, or set serving.expose.ingress"
    " instead of serving.expose.gateway"
)

NO_AUTOAWQ = (
    "quantization.backend is autoawq, and the operator has no image for it: set images.quantizationAutoawq in this"
    " resource or in the operator's chart, or set quantization.backend: llm-compressor"
)


@dataclass(frozen=True)
class Finding:
    """Status, reason and message of a condition, without observedGeneration and lastTransitionTime."""

    status: str
    reason: str
    message: str


def derive_findings(snapshot: Snapshot) -> dict[ConditionType, Finding]:
    """Every condition except Ready, Reconciling and Stalled."""
    return {
        ConditionType.TRAINED: _trained(snapshot),
        ConditionType.QUANTIZED: _quantized(snapshot),
        ConditionType.EVALUATED: _evaluated(snapshot),
        ConditionType.QUALITY_ACCEPTED: _quality(snapshot),
        ConditionType.AVAILABLE: _available(snapshot),
        ConditionType.SCALABLE: _scalable(snapshot),
        ConditionType.EXPOSED: _exposed(snapshot),
        ConditionType.LOAD_TESTED: _load_tested(snapshot),
        ConditionType.PERFORMANCE_REGRESSED: _regressed(snapshot),
    }


def _disabled(why: str) -> Finding:
    """The finding for a stage that the spec disables. It is True, because nothing has failed."""
    return Finding("True", Reason.SKIPPED, f"disabled: {why}")


def _of_job(record: StageRecord | None, word: str) -> Finding:
    if record is None:
        return Finding(UNKNOWN, Reason.WAITING, f"{word} has not started")
    if record.outcome == "Running":
        return Finding(UNKNOWN, record.reason or Reason.RUNNING, _running(record))
    if record.outcome == "Failed":
        return Finding(
            "False", record.reason or Reason.JOB_FAILED, record.message or f"Job {record.job_name} failed"
        )
    return Finding("True", Reason.SUCCEEDED, f"Job {record.job_name} succeeded")


def _of_stage(snapshot: Snapshot, stage: JobStage, record: StageRecord | None, word: str) -> Finding:
    """The finding for a stage that runs as a Job, with a blocking pod or what to do about a missing GPU."""
    finding = _of_job(record, word)
    pod = snapshot.observed.blocking_pod(stage.component, stage.job_name)
    if record is None and pod is not None:
        return Finding(UNKNOWN, Reason.WAITING, _blocked_by_pod(word, pod))
    job = snapshot.observed.jobs_by_name.get(record.job_name) if record else None
    runs = finding.reason in (Reason.RUNNING, Reason.WAITING_FOR_CAPACITY)
    if not runs or job is None or not job.lacks_gpu:
        return finding
    hint = advice(snapshot.model.spec, snapshot.observed)
    return Finding(UNKNOWN, Reason.WAITING_FOR_GPU, finding.message + hint)


def _blocked_by_pod(word: str, pod: StagePod) -> str:
    """Message for a stage that is blocked by a pod of an earlier Job, since both would write the same files."""
    remedy = (
        f"if its node is gone, delete the Node object, or run: kubectl delete pod {pod.name} --force --grace-period=0"
        if pod.is_deleted
        else f"to stop it, run: kubectl delete pod {pod.name}"
    )
    return f"{word} starts when pod {pod.name} of an earlier Job has terminated; {remedy}"


def _trained(snapshot: Snapshot) -> Finding:
    return _of_stage(snapshot, snapshot.chain.train, snapshot.records.training, "training")


def _running(record: StageRecord) -> str:
    """What a running stage waits for, or else its progress, if it reports any."""
    if record.reason == Reason.SUSPENDED:
        return f"Job {record.job_name} {record.message}"
    if record.message:
        return f"Job {record.job_name} runs: {record.message}"
    if isinstance(record, TrainingStatus) and record.progress:
        return progress_text(record.progress)
    return f"Job {record.job_name} runs"


def _quantized(snapshot: Snapshot) -> Finding:
    if snapshot.chain.quantize is None:
        return _disabled("spec.quantization.method is none")
    image = quantization_image(snapshot.model.spec, snapshot.images)
    if not image and snapshot.records.quantization is None:
        return Finding("False", Reason.INVALID_SPEC, NO_AUTOAWQ)
    return _of_stage(snapshot, snapshot.chain.quantize, snapshot.records.quantization, "quantization")


def _evaluated(snapshot: Snapshot) -> Finding:
    record = snapshot.records.evaluation
    finding = _of_stage(snapshot, snapshot.chain.evaluate, record, "evaluation")
    if record is None or finding.status != "True" or record.f1 is None or record.figures is None:
        return finding
    return Finding("True", Reason.SUCCEEDED, _measured(record, record.figures))


def _measured(record: EvaluationStatus, figures: EngineFigures) -> str:
    """F1 and throughput in the serving engine, compared with the model before quantization."""
    text = f"F1 {record.f1:.3f} in {record.engine}, {figures.texts_per_second:.1f} texts per second"
    before, drop = record.original_figures, record.drop
    if before is None or drop is None:
        return text
    speed = figures.texts_per_second / before.texts_per_second
    advice = "" if speed >= SLOWER else "; quantization.method: none is faster here but needs more memory"
    return (
        f"{text}; before quantization F1 {record.original_f1:.3f}, same decision for {drop.agreement:.1%} of the rows;"
        f" 4-bit has {speed:.2f} times the throughput and {figures.memory_bytes / before.memory_bytes:.2f} times the"
        f" memory{advice}"
    )


def _quality(snapshot: Snapshot) -> Finding:
    verdict = snapshot.verdict
    word = {True: "True", False: "False", None: UNKNOWN}[verdict.accepted]
    return Finding(word, verdict.reason, verdict.message)


def _available(snapshot: Snapshot) -> Finding:
    deployment = snapshot.observed.deployment
    if deployment is None:
        return Finding("False", Reason.WAITING, "the Deployment does not exist yet")
    count = f"{deployment.ready_replicas} of {deployment.replicas} replicas ready"
    problem = deployment.trouble or deployment.waits_for
    trouble = f"; {problem}" if problem else ""
    if deployment.lacks_gpu:
        trouble += advice(snapshot.model.spec, snapshot.observed)
    if deployment.is_paused:
        trouble += _paused_message(snapshot.model)
    if deployment.ready_replicas > 0:
        return Finding("True", Reason.REPLICAS_READY, count + trouble)
    if deployment.handed_to:
        return Finding(
            "False", Reason.GPU_HANDED_OVER, f"no serving pod runs while Job {deployment.handed_to} uses the GPU"
        )
    if deployment.wanted_replicas == 0:
        return Finding("False", Reason.STOPPED, _stopped(snapshot.model))
    if deployment.is_paused:
        return Finding("False", Reason.DEPLOYMENT_PAUSED, count + trouble)
    return Finding("False", Reason.NO_READY_REPLICAS, count + trouble)


def _paused_message(model: Model) -> str:
    name = names.serving_name(model.name)
    return f"; Deployment {name} is paused; to continue the rollout, run: kubectl rollout resume deployment/{name}"


def _stopped(model: Model) -> str:
    """Why the Deployment has no replicas, and how to get some."""
    name, serving = names.serving_name(model.name), model.spec.serving
    if serving.replicas == 0:
        return "serving.replicas is 0, so no serving pod runs; set it to 1 or more"
    return (
        f"Deployment {name} was scaled to 0, where autoscalers ignore it, so no serving pod runs; to start one, run:"
        f" kubectl scale deployment {name} --replicas=1"
    )


def _scalable(snapshot: Snapshot) -> Finding:
    """Whether the autoscaler can read its metric. Without the metric nothing scales."""
    scaling, observed = snapshot.model.spec.serving.autoscaling, snapshot.observed
    if scaling is None:
        return _disabled("spec.serving.autoscaling is not set")
    kind = SCALERS[scaling.metric][1]
    if kind in observed.missing_kinds:
        return Finding("False", Reason.KEDA_MISSING, NO_KEDA)
    if observed.deployment is not None and observed.deployment.handed_to:
        return Finding(UNKNOWN, Reason.WAITING, "autoscaling is off while no serving pod runs")
    state = observed.autoscalers.get(kind)
    if state is None or state.active is None:
        return Finding(UNKNOWN, Reason.WAITING, f"the autoscaler has not read the metric {scaling.metric} yet")
    if state.active:
        return Finding("True", Reason.METRIC_AVAILABLE, f"the autoscaler reads the metric {scaling.metric}")
    advice = _query_hint(snapshot.model, scaling)
    text = f"the autoscaler cannot read the metric {scaling.metric}: {state.message}{advice}"
    return Finding("False", Reason.METRIC_MISSING, text)


def _query_hint(model: Model, scaling: Autoscaling) -> str:
    if scaling.metric == "cpu":
        return ""
    return f"; query Prometheus at {scaling.prometheus_address} for {in_flight_query(model)}"


def _exposed(snapshot: Snapshot) -> Finding:
    """Whether a controller serves the route from outside the cluster. It says nothing about DNS and certificates."""
    expose, observed = snapshot.model.spec.serving.expose, snapshot.observed
    if expose is None:
        return _disabled("spec.serving.expose is not set")
    kind, name = route_kind(expose), names.serving_name(snapshot.model.name)
    if kind in observed.missing_kinds:
        return Finding("False", Reason.GATEWAY_API_MISSING, NO_GATEWAY_API)
    state = observed.routes.get(kind)
    if state is None:
        return Finding(UNKNOWN, Reason.WAITING, f"{kind} {name} does not exist yet; see the condition Ready")
    if state.accepted is False:
        return Finding(
            "False", Reason.ROUTE_REFUSED, f"{_served_by(expose)} refused {kind} {name}: {state.message}"
        )
    warning = ""
    if snapshot.model.spec.serving.api_token_secret_name is None:
        warning = f"; anyone who reaches {expose.host} can use the service: set serving.apiTokenSecretName"
    if state.accepted:
        address = f" at {state.message}, to which DNS must resolve {expose.host}" if state.message else ""
        text = f"{_served_by(expose)} serves {expose.url}{address}"
        return Finding("True", Reason.ROUTE_ACCEPTED, text + warning)
    return Finding(UNKNOWN, Reason.WAITING, _unanswered(expose, kind, name, state) + warning)


def _served_by(expose: Expose) -> str:
    gateway = expose.gateway
    if gateway is None:
        return "the ingress controller"
    return f"Gateway {gateway.namespace}/{gateway.name}" if gateway.namespace else f"Gateway {gateway.name}"


def _unanswered(expose: Expose, kind: str, name: str, state: RouteState) -> str:
    """What to check while no controller serves the route."""
    if state.message:
        return f"{_served_by(expose)} does not serve {kind} {name} yet: {state.message}"
    if kind == HTTP_ROUTE:
        return f"no controller has answered {kind} {name} yet; check that {_served_by(expose)} exists and is programmed"
    if state.class_name is None:
        return (
            f"{kind} {name} has no class; set serving.expose.ingress.className to one of: kubectl get ingressclass"
        )
    return (
        f"{kind} {name} of class {state.class_name} has no address yet, which some controllers never set; check that"
        " the class exists and that its controller runs: kubectl get ingressclass"
    )


def _load_tested(snapshot: Snapshot) -> Finding:
    if snapshot.chain.loadtest is None:
        return _disabled("spec.loadTest.enabled is false")
    finding = _of_stage(snapshot, snapshot.chain.loadtest, snapshot.records.load_test, "load test")
    if snapshot.records.load_test is None and snapshot.serves_current and not snapshot.serves_with_all:
        text = f"the load test starts when all replicas are ready: {_available(snapshot).message}"
        return Finding(UNKNOWN, Reason.WAITING, text)
    figures = snapshot.model.status.load_test
    if finding.status == "True" and figures is not None:
        return Finding("True", Reason.SUCCEEDED, _figures(figures))
    return finding


def _regressed(snapshot: Snapshot) -> Finding:
    """Whether the load test found the served version slower than the previous complete run did."""
    if snapshot.chain.loadtest is None:
        return Finding("False", Reason.SKIPPED, "disabled: spec.loadTest.enabled is false")
    failure, figures = snapshot.failed_version, snapshot.model.status.load_test
    if failure is not None and failure.run:
        return Finding("True", Reason.SLOWER, f"{failure.describe()}; version {snapshot.good_version} serves")
    if not succeeded(snapshot.records.load_test) or figures is None:
        return Finding(UNKNOWN, Reason.WAITING, "the load test has not finished")
    found = figures.comparison
    if found is None:
        text = "no previous complete load test had the same load, objective and replicas"
        return Finding("False", Reason.NO_BASELINE, text)
    if not found.regressed:
        return Finding("False", Reason.AS_BEFORE, found.message)
    return Finding("True", Reason.SLOWER, found.message + _not_rolled_back(snapshot))


def _not_rolled_back(snapshot: Snapshot) -> str:
    """Why a slower version keeps serving although loadTest.onRegression is RollBack; empty if there is no reason."""
    if snapshot.trial is None or snapshot.regression is not None:
        return ""
    previous = snapshot.previous_version
    if previous is not None:
        return f"; it keeps serving, since the ReplicaSet of version {previous} no longer exists"
    return "; it keeps serving, since no version before it is known or an earlier load test has accepted it"


def _figures(figures: LoadTestStatus) -> str:
    reached = "none" if figures.max_length_at_requested_rps is None else figures.max_length_at_requested_rps
    p95 = "none" if figures.p95_seconds is None else f"{figures.p95_seconds:.3f} s"
    if figures.mode == "search":
        text = f"{_found(figures)}, p95 {p95}, longest length bucket at the requested rate: {reached}"
    else:
        rps = "no" if figures.actual_rps is None else f"{figures.actual_rps:.2f}"
        text = (
            f"{rps} of {figures.requested_rps:g} requested requests per second, p95 {p95},"
            f" longest length bucket within the objective: {reached}"
        )
    if figures.replicas_changed:
        text += "; the number of ready replicas changed during the run, so there are no conclusions"
    return text + _limited_by(figures)


def _found(figures: LoadTestStatus) -> str:
    """The result of a search. `requestedRps` is only its starting rate."""
    rates = [each.max_rps_within_slo for each in figures.buckets if each.max_rps_within_slo is not None]
    if not any(rates):
        return "no tested rate met the objective"
    least, most = f"{min(rates):.2f}", f"{max(rates):.2f}"
    text = (
        f"{most} requests per second" if least == most else f"{least} to {most} requests per second by text length"
    )
    mix = figures.conclusions
    per_replica = f", {mix.mixed_rps_per_replica:.2f} per replica for the mix of lengths" if mix else ""
    if mix and mix.source == "buckets":
        per_replica += " (computed from the buckets)"
    return f"within the objective: {text}{per_replica}"


def _limited_by(figures: LoadTestStatus) -> str:
    """Why the test sent fewer requests than requested; empty if it did not."""
    if figures.generator_saturated:
        return "; the load generator was saturated"
    limit = f"; the limit of {figures.users} open requests was reached, so requests were"
    if figures.users_exhausted:
        return f"{limit} omitted; raise loadTest.maxOpenRequests if latencies are low"
    return f"{limit} sent late" if figures.open_limit_reached else ""
