"""Reports results that were made with other images, defaults or sources than the operator would use now. Pure.

Nothing is run again automatically. A new `runId` repeats a finished stage. The chart's `upgrades.policy` decides
whether the serving pods move to the operator's current images.
"""

from __future__ import annotations

from collections.abc import Iterator

from toxicity_api.status import Outdated, StageRecord
from toxicity_operator import names
from toxicity_operator.chain import STORAGE_SIZE, JobStage, references
from toxicity_operator.decide.records import finished, succeeded
from toxicity_operator.decide.snapshot import Snapshot
from toxicity_operator.model import Model
from toxicity_operator.observe.deployment import version_of

OTHER_DEFAULTS = (
    "this version of the operator has other defaults; the resource keeps the stored ones. To use the new defaults, set"
    " the fields in the spec"
)

TO_ROLL_OUT = (
    "to roll it out, set upgrades.policy: RollOut in the operator's chart, or images.serving in this resource"
)


def stages_to_read(model: Model, chain_stages: tuple[JobStage | None, ...]) -> dict[str, list[str]]:
    """The ConfigMaps and Secrets whose versions this pass needs, by component.

    For the first stage that is pending or has failed: all of them. For a succeeded stage: only ConfigMaps. For a
    running stage: none. Later stages are left out, because they cannot start in this pass.
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
    """Every difference between an existing result and the one that this operator would make."""
    records, chain = snapshot.records, snapshot.chain
    found = [
        *_of_stage("training", records.training, chain.train, "to train again, set training.runId to a new value"),
        *_of_stage(
            "quantization",
            records.quantization,
            chain.quantize,
            "to quantize again, set quantization.runId to a new value",
        ),
        *_of_stage("evaluation", records.evaluation, chain.evaluate, TO_ROLL_OUT),
    ]
    return found + _of_normal_form(snapshot) + _of_serving(snapshot)


def is_behind(snapshot: Snapshot) -> bool:
    """Whether this operator would evaluate or serve the model differently and may roll that out."""
    deployment, evaluate = snapshot.observed.deployment, snapshot.chain.evaluate
    if deployment is None or snapshot.records.evaluated is None:
        return False
    # earlier operators did not record the image of the evaluation; it is the image of the Deployment
    if evaluate.known is not None and (evaluate.known.image or deployment.image) != evaluate.made_with.image:
        return True
    desired = snapshot.desired_deployment and version_of(snapshot.desired_deployment["metadata"]["annotations"])
    is_of_spec = deployment.serving_fingerprint == snapshot.chain.serving_fingerprint
    return bool(desired and is_of_spec and deployment.version != desired and not snapshot.failure_of(desired))


def is_moving(snapshot: Snapshot) -> bool:
    """Whether a rollout is in progress: the evaluation is not finished, or the new pods are not ready."""
    records, deployment = snapshot.records, snapshot.observed.deployment
    if deployment is None or records.trained is None or (snapshot.chain.quantize and records.quantized is None):
        return False
    if not finished(records.evaluation):
        return snapshot.verdict.accepted is not False
    if snapshot.desired_deployment is None or snapshot.serves_current or snapshot.failed_version is not None:
        return False
    return deployment.wanted_replicas > 0 and not deployment.is_paused


def _of_stage(name: str, record: StageRecord | None, stage: JobStage | None, remedy: str) -> Iterator[Outdated]:
    if stage is None or not succeeded(record) or record.made_with is None:
        return
    made, now = record.made_with, stage.made_with
    if made.image and now.image and made.image != now.image:
        yield _item(name, "image", made.image, now.image, remedy)
    if made.inputs and made.inputs != made.read_as:
        yield _item(name, "defaults", made.operator, now.operator, OTHER_DEFAULTS)
    for source, version in now.sources.items():
        if source != STORAGE_SIZE and made.sources.get(source, version) != version:
            yield _item(name, source, made.sources[source], version, remedy)


def _of_normal_form(snapshot: Snapshot) -> list[Outdated]:
    trained, now = snapshot.records.trained, snapshot.chain.train.made_with.normal_form or 0
    made = trained and (trained.normal_form or 0)
    if made is None or made == now:
        return []
    remedy = "to train with it, set training.runId to a new value; to keep the model as it is, do nothing"
    return [_item("training", "normalForm", str(made), str(now), remedy)]


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
    message = (
        f"this template was rolled out and did not become ready: {failure.message}" if failure else TO_ROLL_OUT
    )
    return [_item("serving", "template", deployment.version, present, message)]


def _item(stage: str, subject: str, made_with: str | None, present: str | None, message: str) -> Outdated:
    fields = {"stage": stage, "subject": subject, "madeWith": made_with, "present": present, "message": message}
    return Outdated.model_validate(fields)
