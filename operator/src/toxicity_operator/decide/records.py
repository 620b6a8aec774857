"""What is known of each stage: the record in status, moved on by what its Job says now.

A record outlives its Job, so that a finished stage is not run again when the Job is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

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
from toxicity_operator.observe.jobs import JobState
from toxicity_operator.observe.state import Observed

RecordT = TypeVar("RecordT", bound=StageRecord)
DIGITS = 4
COPIED = {"dataset": "dataset", "baseModel": "base-model"}
"""Fields of the spec whose image an init container copies from, and its name."""

METRIC_FIELDS = ("metrics", "originalMetrics")


@dataclass(frozen=True)
class Records:
    """The records of the stages that the spec asks for now; None where nothing has begun."""

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


def succeeded(record: StageRecord | None) -> bool:
    """Whether the stage is done."""
    return record is not None and record.outcome == "Succeeded"


def finished(record: StageRecord | None) -> bool:
    """Whether the stage needs no Job any more: done, or failed for good."""
    return record is not None and record.outcome != "Running"


def read_records(model: Model, chain: Chain, observed: Observed, progress: Progress | None = None) -> Records:
    """The records of the chain's stages, from status and from the Jobs that exist.

    `progress` is what the running training said last; None when it said nothing or could not be read.
    """
    own = ("PersistentVolumeClaim", names.claim_name(model.name))
    claim = None if model.spec.storage.claim_name else observed.objects.get(own)
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
    """The Jobs by name, but for those that ended before the volume was made: their results went with another one."""
    made_at = _made_at(claim)
    return {name: job for name, job in observed.jobs_by_name.items() if (job.finished_at or "~") >= made_at}


def _made_at(claim: Raw | None) -> str:
    return str(claim["metadata"].get("creationTimestamp", "")) if claim else ""


def _on_volume(status: ToxicityModelStatus, claim: Raw | None) -> ToxicityModelStatus:
    """The status without the records of what lay on a volume that is gone: the claim that is there is younger.

    A volume that came back from a copy is younger too; the stages then find there what they would make.
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
        old = None  # it was given other resources: another Job takes its place
    if old is not None and (old.fingerprint != stage.fingerprint or _should_retry(old, stage, job)):
        old = None
    known = _filled(stage.known, job)
    if job is None or finished(old):
        return old and old.model_copy(update={"made_with": known or stage.made_with})
    is_known = old is not None and old.job_name == stage.job_name
    facts = _facts(kind, stage, job, figures)
    if facts is None or (facts["outcome"] == "Failed" and not is_known):
        # Of a failure: a record is written by the pass that makes the Job, so this one is left from an earlier life of
        # the same spec. What failed then is to be tried, and where nothing of it is left to read it is on the volume.
        return None
    made_with = known if is_known and known else stage.made_with
    return kind.model_validate(facts | {"madeWith": made_with.to_wire()})


def _filled(known: MadeWith | None, job: JobState | None) -> MadeWith | None:
    """What is recorded; with the image of the Job that is there only where none is recorded.

    Admission may have put a mirror's name there, which would count as another image than the one that was asked for.
    """
    if known is None or known.image or job is None or not job.image:
        return known
    return known.model_copy(update={"image": job.image})


def _should_retry(old: StageRecord, stage: JobStage, job: JobState | None) -> bool:
    """Whether a stage that failed may succeed now: it has other resources, another image, ConfigMap or Secret; or it
    had succeeded, and an earlier version of the operator gave it up since its result was lost.
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
    """Names of the ended Jobs that no record speaks of: they stand in the way of those that are to be made."""
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
    """The record of a stage by its Job; None when its result is lost with its pod, so that it is to be run again."""
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
    """The record with the running pod's progress: the known one while there is no news, none when no pod runs."""
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
        return _missing("the load test's Job ended, but status.loadTest has no complete figures of it")
    facts = None if result is None else _stage_facts(kind, result)
    if facts is None:
        return _missing("the Job ended well, but no pod of it left a result document")
    return {key: _rounded(key, value) for key, value in facts.items()}


def _stage_facts(kind: type[StageRecord], result: StageResult) -> dict[str, Any] | None:
    """What the status says of a stage that succeeded; None when the document is not of this kind of stage."""
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
    """A result's fields with those of `metrics` beside them."""
    facts = document.to_wire()
    return {key: value for key, value in facts.items() if key not in METRIC_FIELDS} | metrics.to_wire()


def _missing(message: str) -> dict[str, Any]:
    return {"outcome": "Failed", "reason": str(Reason.RESULT_MISSING), "message": message}


def _rounded(key: str, value: object) -> object:
    """Figures as people read them; the threshold stays exact, since texts are judged by it."""
    if isinstance(value, dict):
        return {name: _rounded(name, part) for name, part in value.items()}
    return round(value, DIGITS) if isinstance(value, float) and key != "threshold" else value
