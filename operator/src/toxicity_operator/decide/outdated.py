"""What was made with other images, defaults or sources than now, and the reading of them. Pure.

Nothing of it runs by itself: a finished stage runs again by its `runId`, and what serves moves to the operator's
present images when the chart's `upgrades.policy` says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from toxicity_api.status import Outdated, StageRecord
from toxicity_operator import names
from toxicity_operator.chain import JobStage, references
from toxicity_operator.decide.records import finished, succeeded
from toxicity_operator.decide.snapshot import Snapshot
from toxicity_operator.model import Model
from toxicity_operator.observe.deployment import version_of

OTHER_DEFAULTS = (
    "the present operator has other defaults than the one that made it; the API server has stored those of then. To use"
    " the new ones, set the fields in the spec"
)

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


def derive_outdated(snapshot: Snapshot) -> list[Outdated]:
    """Every way in which what is there differs from what would be made now."""
    records, chain = snapshot.records, snapshot.chain
    found = [
        *_of_stage(
            "training", records.training, chain.train, "set training.runId to another value to train again"
        ),
        *_of_stage(
            "quantization", records.quantization, chain.quantize, "set quantization.runId to quantize again"
        ),
        *_of_stage("evaluation", records.evaluation, chain.evaluate, TO_ROLL_OUT),
    ]
    return found + _of_serving(snapshot)


def is_behind(snapshot: Snapshot) -> bool:
    """Whether what serves, or what evaluated it, would be made otherwise by the present operator, and may be."""
    deployment, evaluate = snapshot.observed.deployment, snapshot.chain.evaluate
    if deployment is None or snapshot.records.evaluated is None:
        return False
    # what evaluated a model of an earlier version is not recorded, but it is what serves
    if evaluate.known is not None and (evaluate.known.image or deployment.image) != evaluate.made_with.image:
        return True
    desired = snapshot.desired_deployment and version_of(snapshot.desired_deployment["metadata"]["annotations"])
    is_of_spec = deployment.serving_fingerprint == snapshot.chain.serving_fingerprint
    return bool(desired and is_of_spec and deployment.version != desired and not snapshot.failure_of(desired))


def is_moving(snapshot: Snapshot) -> bool:
    """Whether the resource is on its way to what the present operator makes: it is evaluated, or its pods start."""
    records, deployment = snapshot.records, snapshot.observed.deployment
    if deployment is None or records.trained is None or (snapshot.chain.quantize and records.quantized is None):
        return False
    if not finished(records.evaluation):
        return snapshot.verdict.accepted is not False
    if snapshot.desired_deployment is None or snapshot.serves_current or snapshot.failed_version is not None:
        return False
    return deployment.wanted_replicas > 0 and not deployment.is_paused


def _of_stage(name: str, record: StageRecord | None, stage: JobStage | None, remedy: str) -> Iterator[Outdated]:
    if record is None or stage is None or not succeeded(record) or record.made_with is None:
        return
    made, now = record.made_with, stage.made_with
    if made.image and made.image != now.image:
        yield _item(name, "image", made.image, now.image, remedy)
    if made.inputs and made.inputs != made.read_as:
        yield _item(name, "defaults", made.operator, now.operator, OTHER_DEFAULTS)
    for source, version in now.sources.items():
        if made.sources.get(source, version) != version:
            yield _item(name, source, made.sources[source], version, remedy)


def _of_serving(snapshot: Snapshot) -> list[Outdated]:
    deployment, desired = snapshot.observed.deployment, snapshot.desired_deployment
    if (
        deployment is None
        or desired is None
        or deployment.serving_fingerprint != snapshot.chain.serving_fingerprint
    ):
        return []
    present = version_of(desired["metadata"]["annotations"])
    if deployment.version == present:
        return []
    failure = snapshot.failure_of(present)
    message = f"it was tried and did not become ready: {failure.message}" if failure else TO_ROLL_OUT
    return [_item("serving", "template", deployment.version, present, message)]


def _item(stage: str, subject: str, made_with: str | None, present: str | None, message: str) -> Outdated:
    fields = {"stage": stage, "subject": subject, "madeWith": made_with, "present": present, "message": message}
    return Outdated.model_validate(fields)
