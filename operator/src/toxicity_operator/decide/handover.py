"""Decides whether a stage Job or the serving pods use the GPUs when there are not enough for both. Pure.

With `serving.strategy: Recreate`, the serving pods release their GPUs for a stage of the same model whose pod cannot
get one. The Deployment is scaled to 0, and an annotation names the Job. It is scaled up again after the last stage that
needs GPUs, with the new version, or with the previous one if a stage failed. The decision uses only objects in the
cluster, so a restarted operator decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.spec import ToxicityModelSpec
from toxicity_operator.chain import Chain, JobStage
from toxicity_operator.decide.quality import Verdict
from toxicity_operator.decide.records import Records, finished, succeeded
from toxicity_operator.observe.state import Observed

REMEDY = (
    "; the serving pods use GPUs; set serving.strategy: Recreate to stop them until the stage has finished, or add a"
    " GPU"
)


@dataclass(frozen=True)
class ActiveStage:
    """The stage that runs or is about to run, and the number of GPUs that its pod requests."""

    stage: JobStage
    gpus: int


def active_stage(spec: ToxicityModelSpec, chain: Chain, records: Records, verdict: Verdict) -> ActiveStage | None:
    """The stage before serving that is not finished; None if all succeeded, or if one failed or was refused."""
    if verdict.accepted is False:
        return None
    stages = (
        (chain.train, records.training, spec.training.gpus),
        (chain.quantize, records.quantization, spec.quantization.gpus),
        (chain.evaluate, records.evaluation, spec.serving.gpus),
    )
    for stage, record, gpus in stages:
        if stage is not None and not succeeded(record):
            return None if finished(record) else ActiveStage(stage, gpus)
    return None


def handed_to(spec: ToxicityModelSpec, turn: ActiveStage | None, observed: Observed) -> JobStage | None:
    """The stage that uses the GPUs of the serving pods; None if the serving pods use them."""
    deployment = observed.deployment
    if turn is None or turn.gpus == 0 or spec.serving.strategy != "Recreate":
        return None
    if deployment is None or deployment.gpus == 0:
        return None
    if deployment.handed_to or (deployment.wanted_replicas > 0 and _waits(turn, observed)):
        return turn.stage
    return None


def advice(spec: ToxicityModelSpec, observed: Observed) -> str:
    """What to do if a stage pod cannot get a GPU; empty if the serving pods do not use one."""
    deployment = observed.deployment
    holds = deployment is not None and deployment.gpus > 0 and deployment.replicas > 0
    return REMEDY if holds and spec.serving.strategy != "Recreate" else ""


def _waits(turn: ActiveStage, observed: Observed) -> bool:
    job = observed.jobs_by_name.get(turn.stage.job_name)
    return job is not None and job.lacks_gpu
