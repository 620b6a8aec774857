"""Derives the operator's part of the status from a snapshot. Pure.

The load test Job writes `status.loadTest` itself, so the operator never sets that field.
"""

from __future__ import annotations

from toxicity_api.conditions import Condition, ConditionType, Reason, set_condition
from toxicity_api.crd import STRING_LIMIT
from toxicity_api.status import (
    Lineage,
    ServingStatus,
    StorageStatus,
    ToxicityModelStatus,
)
from toxicity_operator import names
from toxicity_operator.decide.conditions import UNKNOWN, Finding, derive_findings
from toxicity_operator.decide.kstatus import derive_kstatus
from toxicity_operator.decide.outdated import derive_outdated
from toxicity_operator.decide.readiness import derive_ready
from toxicity_operator.decide.rollout import failure_before
from toxicity_operator.decide.schedule import schedule_in_force
from toxicity_operator.decide.snapshot import Snapshot
from toxicity_operator.errors import ClusterError
from toxicity_operator.manifests.expose import route_kind
from toxicity_operator.manifests.sources import base_model_name, dataset_name
from toxicity_operator.model import Identity


def derive_status(snapshot: Snapshot, now: str, failure: ClusterError | None = None) -> ToxicityModelStatus:
    """The status at the time `now` (RFC 3339). `failure` is the error of this pass while it applied the plan."""
    records, model = snapshot.records, snapshot.model
    findings = derive_findings(snapshot)
    findings[ConditionType.READY], stage = derive_ready(snapshot, findings, failure)
    findings |= derive_kstatus(findings[ConditionType.READY], failure)
    return ToxicityModelStatus(
        observed_generation=model.identity.generation,
        stage=stage,
        url=_url(snapshot),
        conditions=_conditions(model.status.conditions, findings, model.identity.generation, now),
        training=records.training,
        quantization=records.quantization,
        evaluation=records.evaluation,
        serving=_serving(snapshot),
        load_test_job=records.load_test,
        load_test_schedule=schedule_in_force(model.spec.load_test, model.status.load_test_schedule, now),
        storage=_storage(snapshot),
        lineage=_lineage(snapshot),
        outdated=derive_outdated(snapshot) or None,
    )


def derive_invalid(identity: Identity, old: ToxicityModelStatus, problem: str, now: str) -> ToxicityModelStatus:
    """The status of a resource whose spec is invalid: the old one, with `problem` as the message of Ready."""
    known = {condition.type for condition in old.conditions}
    initial = Finding(UNKNOWN, Reason.INVALID_SPEC, "")
    findings = {kind: initial for kind in ConditionType if kind not in known}
    findings[ConditionType.READY] = Finding("False", Reason.INVALID_SPEC, problem)
    findings |= derive_kstatus(findings[ConditionType.READY])
    return old.model_copy(
        update={
            "observed_generation": identity.generation,
            "stage": "InvalidSpec",
            "conditions": _conditions(old.conditions, findings, identity.generation, now),
            "load_test": None,
        }
    )


def own_part(status: ToxicityModelStatus) -> dict[str, object]:
    """The status without `loadTest`, as a document to apply or to compare."""
    return status.model_copy(update={"load_test": None}).to_wire()


def _conditions(
    old: list[Condition], findings: dict[ConditionType, Finding], generation: int, now: str
) -> list[Condition]:
    conditions = list(old)
    for kind, finding in findings.items():
        message = finding.message
        if len(message) > STRING_LIMIT:  # the API server would reject the whole status
            message = f"{message[: STRING_LIMIT - 1]}…"
        fields = {"type": kind, "status": finding.status, "reason": finding.reason, "message": message}
        new = Condition.model_validate({**fields, "observedGeneration": generation, "lastTransitionTime": now})
        conditions = set_condition(conditions, new)
    order = [str(kind) for kind in ConditionType]
    return sorted(conditions, key=lambda condition: order.index(condition.type))


def _url(snapshot: Snapshot) -> str | None:
    """The URL for clients: outside the cluster once the route exists, else that of the Service; None without it."""
    expose, name = snapshot.model.spec.serving.expose, names.serving_name(snapshot.model.name)
    inside = _service_url(snapshot)
    if inside is None or expose is None or not snapshot.observed.has(route_kind(expose), name):
        return inside
    return expose.url


def _service_url(snapshot: Snapshot) -> str | None:
    """The URL of the Service; None if the Service does not exist."""
    model = snapshot.model
    if not snapshot.observed.has("Service", names.serving_name(model.name)):
        return None
    return names.service_url(model.name, model.namespace)


def _serving(snapshot: Snapshot) -> ServingStatus | None:
    deployment, old = snapshot.observed.deployment, snapshot.model.status.serving
    if deployment is None:
        return None
    served = old.model_fingerprint if old else None
    if deployment.rolled_out and deployment.ready_replicas > 0:
        served = deployment.model_fingerprint
    failure, stage = snapshot.failed_version, snapshot.chain.serve
    failed_for = stage.fingerprint if failure else None
    before = failure_before(deployment)
    if failure is None and before is not None:
        failure = before
        failed_for = old.failed_for if old and old.failed_fingerprint == failure.fingerprint else None
    return ServingStatus(
        fingerprint=stage.fingerprint,
        made_with=stage.known or stage.made_with.model_copy(update={"image": snapshot.serving_image}),
        image_id=deployment.image_id or (old.image_id if old else None),
        good_fingerprint=snapshot.good_version,
        failed_fingerprint=failure.fingerprint if failure else None,
        failed_message=failure.message if failure else None,
        failed_for=failed_for,
        failed_in_run=(failure.run or None) if failure else None,
        previous_fingerprint=snapshot.previous_version,
        url=_service_url(snapshot) or "",
        selector=_selector(snapshot.model.name),
        replicas=deployment.replicas,
        ready_replicas=deployment.ready_replicas,
        model_fingerprint=served,
    )


def _selector(name: str) -> str:
    """The label selector of the serving pods, as `kubectl -l` accepts it."""
    return ",".join(f"{key}={value}" for key, value in names.selector_labels(name, names.SERVE).items())


def _storage(snapshot: Snapshot) -> StorageStatus | None:
    """The figures of the stage that ended last. They outlive its Job."""
    known = snapshot.model.status.storage
    measured = [
        StorageStatus(**dict(job.result.storage), measured_at=job.finished_at)
        for job in snapshot.observed.jobs
        if job.finished_at and job.result and job.result.storage
    ]
    found = [*measured, known] if known else measured
    return max(found, key=lambda each: each.measured_at, default=None)


def _lineage(snapshot: Snapshot) -> Lineage:
    """The sources and revisions of the chain's model. Unknown values are left out."""
    spec, records, chain = snapshot.model.spec, snapshot.records, snapshot.chain
    trained = records.trained
    data = trained.data if trained else None
    sources, digests = (trained.sources, trained.image_digests) if trained else (None, {})
    return Lineage(
        dataset=dataset_name(spec.dataset),
        base_model=base_model_name(spec.base_model),
        dataset_revision=digests.get("dataset") if spec.dataset.image else sources and sources.dataset_commit,
        base_model_revision=digests.get("baseModel")
        if spec.base_model.image
        else sources and sources.base_model_commit,
        split_hash=data.split_hash if data else None,
        calibration_hash=records.quantized.calibration_hash if records.quantized else None,
        engine=records.evaluated.engine if records.evaluated else None,
        revision=chain.model_stage.fingerprint,
    )
