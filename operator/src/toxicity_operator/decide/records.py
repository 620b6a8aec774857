"""Updates the record of each stage in the status from the state of its Job.

A record outlives its Job, so a finished stage is not run again after the Job is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

from toxicity_api.base import Document
from toxicity_api.conditions import Reason
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.progress import Progress
from toxicity_api.results import Metrics, StageResult
from toxicity_api.status import (
    EvaluationStatus,
    LoadTestRecord,
    MadeWith,
    QuantizationStatus,
    StageRecord,
    ToxicityModelStatus,
    TrainingStatus,
)
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.chain import Chain, JobStage
from toxicity_operator.model import Model
from toxicity_operator.observe.jobs import DEADLINE_EXCEEDED, JobState
from toxicity_operator.observe.state import Observed

RecordT = TypeVar("RecordT", bound=StageRecord)
DIGITS = 4
COPIED = {"dataset": "dataset", "baseModel": "base-model"}
"""Init container that copies from an image, by field of the spec."""

METRIC_FIELDS = ("metrics", "originalMetrics")


@dataclass(frozen=True)
class Records:
    """The records of the stages of the current spec; None for a stage that has not started."""

    training: TrainingStatus | None
    quantization: QuantizationStatus | None
    evaluation: EvaluationStatus | None
    load_test: LoadTestRecord | None

    @property
    def trained(self) -> TrainingStatus | None:
        """The training record when it succeeded."""
        return self.training if succeeded(self.training) else None

    @property
    def quantized(self) -> QuantizationStatus | None:
        """The quantization record when it succeeded."""
        return self.quantization if succeeded(self.quantization) else None

    @property
    def evaluated(self) -> EvaluationStatus | None:
        """The evaluation record when it succeeded."""
        return self.evaluation if succeeded(self.evaluation) else None


def succeeded(record: RecordT | None) -> TypeGuard[RecordT]:
    """Whether the stage has succeeded."""
    return record is not None and record.outcome == "Succeeded"


def finished(record: RecordT | None) -> TypeGuard[RecordT]:
    """Whether the stage has succeeded or failed, so it needs no Job."""
    return record is not None and record.outcome != "Running"


def read_records(model: Model, chain: Chain, observed: Observed, progress: Progress | None = None) -> Records:
    """The records of the chain's stages, from the status and the existing Jobs.

    `progress` is the last progress that the running training logged; None if there is none or it could not be read.
    """
    own = ("PersistentVolumeClaim", names.claim_name(model.name))
    claim = observed.objects.get(own) if model.spec.storage.makes_claim else None
    status, jobs = _on_volume(model.status, claim), _jobs_on_volume(observed, claim)
    quantization = load_test = None
    training_job = jobs.get(chain.train.job_name)
    training = _advance(TrainingStatus, status.training, chain.train, training_job)
    training = _with_progress(training, status.training, training_job, progress)
    if chain.quantize:
        job = jobs.get(chain.quantize.job_name)
        quantization = _advance(QuantizationStatus, status.quantization, chain.quantize, job)
    evaluation = _advance(EvaluationStatus, status.evaluation, chain.evaluate, jobs.get(chain.evaluate.job_name))
    if chain.loadtest:
        job = observed.jobs_by_name.get(
            chain.loadtest.job_name
        )  # its figures are in the status, not on the volume
        load_test = _advance(LoadTestRecord, status.load_test_job, chain.loadtest, job, status.load_test)
        load_test = load_test and load_test.model_copy(update={"slot": chain.slot or None})
    return Records(training, quantization, evaluation, load_test)


def _jobs_on_volume(observed: Observed, claim: Raw | None) -> Mapping[str, JobState]:
    """The Jobs by name, without those that finished before the volume was created: their results are on another one."""
    made_at = _made_at(claim)
    return {name: job for name, job in observed.jobs_by_name.items() if (job.finished_at or "~") >= made_at}


def _made_at(claim: Raw | None) -> str:
    return str(claim["metadata"].get("creationTimestamp", "")) if claim else ""


def _on_volume(status: ToxicityModelStatus, claim: Raw | None) -> ToxicityModelStatus:
    """The status without the records of results on a deleted volume, which are older than the current claim.

    A volume restored from a backup is newer as well; the stages then find their results on it and reuse them.
    """
    made_at = _made_at(claim)
    records = {name: getattr(status, name) for name in ("training", "quantization", "evaluation")}
    lost = [name for name, record in records.items() if record and (record.finished_at or "~") < made_at]
    return status.model_copy(update=dict.fromkeys(lost))


def _advance(
    kind: type[RecordT],
    old: RecordT | None,
    stage: JobStage,
    job: JobState | None,
    figures: LoadTestStatus | None = None,
) -> RecordT | None:
    if old is not None and old.outcome == "Running" and old.job_name != stage.job_name:
        old = None  # the placement changed, so another Job replaces it
    if old is not None and (old.fingerprint != stage.fingerprint or _should_retry(old, stage, job)):
        old = None
    known = _filled(stage.known, job)
    if job is not None and _never_had_capacity(old, job):
        return None
    if job is None or finished(old):
        return old and old.model_copy(update={"made_with": known or stage.made_with})
    is_known = old is not None and old.job_name == stage.job_name
    facts = _facts(kind, stage, job, figures)
    if facts is None or (facts["outcome"] == "Failed" and not is_known):
        # The pass that creates a Job also records it. A failed Job without a record is therefore left over from an
        # earlier time when the spec was the same. The stage runs again, and reuses what it finds on the volume.
        return None
    made_with = known if is_known and known else stage.made_with
    return kind.model_validate(facts | {"madeWith": made_with.to_wire()})


def _never_had_capacity(old: StageRecord | None, job: JobState) -> bool:
    """Whether a Job exceeded its deadline while its pods waited for capacity. The stage then runs again.

    The Job controller deletes the pods at the deadline, so the reason is the one that was recorded before.
    """
    if old is None or old.job_name != job.name or old.reason != Reason.WAITING_FOR_CAPACITY:
        return False
    return old.outcome == "Running" and job.outcome == "Failed" and job.reason == DEADLINE_EXCEEDED


def _filled(known: MadeWith | None, job: JobState | None) -> MadeWith | None:
    """The recorded `madeWith`, with the image of the existing Job only if no image is recorded.

    An admission webhook can rewrite the Job's image to a mirror, which would look like another image.
    """
    if known is None or known.image or job is None or not job.image:
        return known
    return known.model_copy(update={"image": job.image})


def _should_retry(old: StageRecord, stage: JobStage, job: JobState | None) -> bool:
    """Whether a failed stage should run again.

    That is the case if its resources, image, ConfigMap or Secret changed, or if an earlier version of the operator
    marked it as failed because the result of a succeeded Job was lost.
    """
    if old.outcome != "Failed":
        return False
    made, now = old.made_with, stage.made_with
    if made is None and old.reason == Reason.RESULT_MISSING and stage.component != names.LOADTEST:
        return job is None or job.lost_pod
    if old.job_name != stage.job_name or made is None:
        return old.job_name != stage.job_name
    changed = any(made.sources.get(name, version) != version for name, version in now.sources.items())
    return changed or made.image not in (None, now.image)


def stale_jobs(chain: Chain, records: Records, observed: Observed) -> list[str]:
    """Names of finished Jobs without a record. They are deleted, because a new Job needs the name."""
    stages = (
        (chain.train, records.training),
        (chain.quantize, records.quantization),
        (chain.evaluate, records.evaluation),
        (chain.loadtest, records.load_test),
    )
    open_ones = [stage.job_name for stage, record in stages if stage and record is None]
    return [name for name in open_ones if name in observed.jobs_by_name]


def _facts(
    kind: type[StageRecord], stage: JobStage, job: JobState, figures: LoadTestStatus | None
) -> dict[str, Any] | None:
    """The record of a stage from its Job; None if the result was lost with the pod, so the stage must run again."""
    if job.outcome == "Succeeded" and job.result is None and job.lost_pod and kind is not LoadTestRecord:
        return None
    facts: dict[str, Any] = {
        "fingerprint": stage.fingerprint,
        "jobName": job.name,
        "outcome": job.outcome,
        "startedAt": job.started_at,
    }
    if job.image_id:
        facts["imageId"] = job.image_id
    if kind is TrainingStatus and job.init_image_ids:
        facts["imageDigests"] = {
            field: job.init_image_ids[name] for field, name in COPIED.items() if name in job.init_image_ids
        }
    if job.outcome == "Running" and job.message:
        facts["message"] = job.message
        facts |= {"reason": job.reason} if job.reason else {}
    if job.outcome != "Running":
        facts["finishedAt"] = job.finished_at
    if job.outcome == "Failed":
        facts |= {"reason": job.reason, "message": job.message}
    if job.outcome == "Succeeded":
        facts |= _outcome_facts(kind, stage, job.result, figures)
    return facts


def _with_progress(
    record: TrainingStatus | None, old: TrainingStatus | None, job: JobState | None, progress: Progress | None
) -> TrainingStatus | None:
    """The record with the running pod's progress: the last known one if there is no new one, none if no pod runs."""
    if record is None:
        return None
    if progress is None and old is not None and old.job_name == record.job_name:
        progress = old.progress
    runs = job is not None and bool(job.running_pod)
    return record.model_copy(update={"progress": progress if runs else None})


def _outcome_facts(
    kind: type[StageRecord], stage: JobStage, result: StageResult | None, figures: LoadTestStatus | None
) -> dict[str, Any]:
    if kind is LoadTestRecord:
        if figures is not None and figures.fingerprint == stage.fingerprint and figures.state == "Complete":
            return {}
        return _missing(
            "the load test Job finished, but status.loadTest has no complete results; see the log of the Job"
        )
    facts = None if result is None else _stage_facts(kind, result)
    if facts is None:
        return _missing("the Job succeeded, but none of its pods wrote a result document")
    return {key: _rounded(key, value) for key, value in facts.items()}


def _stage_facts(kind: type[StageRecord], result: StageResult) -> dict[str, Any] | None:
    """The status fields of a succeeded stage; None if the result document belongs to another kind of stage."""
    if kind is TrainingStatus and result.training:
        return _flat(result.training, result.training.metrics)
    if kind is QuantizationStatus and result.quantization:
        return _flat(result.quantization, result.quantization.metrics)
    if kind is EvaluationStatus and result.evaluation:
        before = result.evaluation.original_metrics
        facts = _flat(result.evaluation, result.evaluation.metrics)
        return facts | ({"originalF1": before.f1, "originalMacroF1": before.macro_f1} if before else {})
    return None


def _flat(document: Document, metrics: Metrics) -> dict[str, Any]:
    """The fields of a result, with its metrics merged into the top level."""
    facts = document.to_wire()
    return {key: value for key, value in facts.items() if key not in METRIC_FIELDS} | metrics.to_wire()


def _missing(message: str) -> dict[str, Any]:
    return {"outcome": "Failed", "reason": str(Reason.RESULT_MISSING), "message": message}


def _rounded(key: str, value: object) -> object:
    """Floats rounded for display; the threshold stays exact, because classification uses it."""
    if isinstance(value, dict):
        return {name: _rounded(name, part) for name, part in value.items()}
    return round(value, DIGITS) if isinstance(value, float) and key != "threshold" else value
