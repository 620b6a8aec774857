"""What was made with other images, defaults or sources than now, and the reading of them. Pure.

Nothing of it runs by itself: a finished stage runs again by its `runId`, and what serves moves to the operator's
present images when the chart's `upgrades.policy` says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from toxicity_api.status import Outdated, StageRecord
from toxicity_operator import names
from toxicity_operator.chain import JobStage, references
from toxicity_operator.decide.records import succeeded
from toxicity_operator.decide.situation import Situation
from toxicity_operator.model import Model
from toxicity_operator.observe.deployment import version_of

TO_ROLL_OUT = (
    "set upgrades.policy: RollOut in the operator's chart, or images.serving in this resource, to roll it out"
)


def stages_to_read(model: Model, chain_stages: tuple[JobStage | None, ...]) -> dict[str, list[str]]:
    """By component, the ConfigMaps and Secrets whose versions matter now.

    All of the first stage that is to begin or has failed, only the data of one that is done, none while one runs. What
    comes after a stage that is not done cannot begin in this pass.
    """
    status = model.status
    outcomes = {
        names.TRAIN: status.training, names.QUANTIZE: status.quantization,
        names.EVALUATE: status.evaluation, names.LOADTEST: status.load_test_job,
    }  # fmt: skip
    found = {}
    for stage in filter(None, chain_stages):
        record = outcomes[stage.component] if stage.known else None
        read = references(model.spec, stage.component)
        if record is not None and record.outcome == "Running":
            read = []
        if succeeded(record):
            read = [name for name in read if name.startswith("ConfigMap/")]
        if read:
            found[stage.component] = read
        if record is None or record.outcome == "Failed":
            break
    return found


def derive_outdated(situation: Situation) -> list[Outdated]:
    """Every way in which what is there differs from what would be made now."""
    records, chain = situation.records, situation.chain
    found = [
        *_of_stage(
            "training", records.training, chain.train, "set training.runId to another value to train again"
        ),
        *_of_stage(
            "quantization", records.quantization, chain.quantize, "set quantization.runId to quantize again"
        ),
        *_of_stage("evaluation", records.evaluation, chain.evaluate, TO_ROLL_OUT),
    ]
    return found + _of_serving(situation)


def is_behind(situation: Situation) -> bool:
    """Whether what serves, or what evaluated it, would be made otherwise by the present operator, and may be."""
    deployment, evaluate = situation.observed.deployment, situation.chain.evaluate
    if deployment is None or situation.records.evaluated is None:
        return False
    # what evaluated a model of an earlier version is not recorded, but it is what serves
    if evaluate.known is not None and (evaluate.known.image or deployment.image) != evaluate.made_with.image:
        return True
    fresh = situation.fresh and version_of(situation.fresh["metadata"]["annotations"])
    is_of_spec = deployment.serving_fingerprint == situation.chain.serving_fingerprint
    return bool(fresh and is_of_spec and deployment.version != fresh and not situation.failure_of(fresh))


def is_moved(situation: Situation) -> bool:
    """Whether the resource needs its turn no more: it serves what the spec asks for, or does not come to that yet.

    It does not while it is to train or quantize first, after a failed stage or a refusal, and where its Deployment is
    paused or scaled to 0. Else one resource that waits for a person would hold up all others.
    """
    deployment, turn = situation.observed.deployment, situation.stage_in_turn
    if situation.serves_current or situation.failed_version is not None:
        return True
    if turn is not None:
        return turn.stage.component != names.EVALUATE
    stands_still = deployment is not None and (deployment.is_paused or deployment.wanted_replicas == 0)
    return situation.fresh is None or stands_still


def _of_stage(name: str, record: StageRecord | None, stage: JobStage | None, remedy: str) -> Iterator[Outdated]:
    if record is None or stage is None or not succeeded(record) or record.made_with is None:
        return
    made, now = record.made_with, stage.made_with
    if made.image and made.image != now.image:
        yield _item(name, "image", made.image, now.image, remedy)
    if made.inputs and made.inputs != made.read_as:
        text = f"the present operator has other defaults for fields that the spec leaves open: {remedy}"
        yield _item(name, "defaults", made.operator, now.operator, text)
    for source, version in now.sources.items():
        if made.sources.get(source, version) != version:
            yield _item(name, source, made.sources[source], version, remedy)


def _of_serving(situation: Situation) -> list[Outdated]:
    deployment, fresh = situation.observed.deployment, situation.fresh
    if (
        deployment is None
        or fresh is None
        or deployment.serving_fingerprint != situation.chain.serving_fingerprint
    ):
        return []
    present = version_of(fresh["metadata"]["annotations"])
    if deployment.version == present:
        return []
    failure = situation.failure_of(present)
    message = f"it was tried and did not become ready: {failure.message}" if failure else TO_ROLL_OUT
    return [_item("serving", "template", deployment.version, present, message)]


def _item(stage: str, subject: str, made_with: str | None, present: str | None, message: str) -> Outdated:
    fields = {"stage": stage, "subject": subject, "madeWith": made_with, "present": present, "message": message}
    return Outdated.model_validate(fields)
