"""Who has the GPU when there is one for all: a stage's Job, or the pods that serve. Pure.

With `serving.strategy: Recreate` the pods that serve make room for a stage of the same model whose pod finds no GPU
free: their Deployment goes to no replicas and bears the name of the Job. It stays so while that stage, or one after it
that asks for GPUs, is in turn, and comes back with the version that the stages made, or as it was when they failed.
All of it follows from what is in the cluster, so that an operator that starts anew decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.spec import ToxicityModelSpec
from toxicity_operator import names
from toxicity_operator.chain import Chain, JobStage
from toxicity_operator.decide.quality import Verdict
from toxicity_operator.decide.records import Records, finished, succeeded
from toxicity_operator.observe.state import Observed

REMEDY = (
    f"; the pods that serve hold {names.GPU_RESOURCE}: set serving.strategy: Recreate, so that they make room and serve"
    " again when it is done, or add a GPU"
)


@dataclass(frozen=True)
class ActiveStage:
    """The stage before serving that is to run or runs now, and the GPUs that its pod asks for."""

    stage: JobStage
    gpus: int


def active_stage(spec: ToxicityModelSpec, chain: Chain, records: Records, verdict: Verdict) -> ActiveStage | None:
    """None when the stages before serving are done, or will not go on before the spec changes."""
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
    """The stage that has, or now gets, the GPUs of the pods that serve; None when these keep them or get them back."""
    deployment = observed.deployment
    if turn is None or turn.gpus == 0 or spec.serving.strategy != "Recreate":
        return None
    if deployment is None or deployment.gpus == 0:
        return None
    if deployment.handed_to or (deployment.wanted_replicas > 0 and _waits(turn, observed)):
        return turn.stage
    return None


def advice(spec: ToxicityModelSpec, observed: Observed) -> str:
    """What to do for a pod that finds no GPU free; empty when the pods that serve have none to give."""
    deployment = observed.deployment
    holds = deployment is not None and deployment.gpus > 0 and deployment.replicas > 0
    return REMEDY if holds and spec.serving.strategy != "Recreate" else ""


def _waits(turn: ActiveStage, observed: Observed) -> bool:
    job = observed.jobs_by_name.get(turn.stage.job_name)
    return job is not None and job.lacks_gpu
