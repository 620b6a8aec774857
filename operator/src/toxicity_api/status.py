"""The observed state: what the operator (and, for `loadTest`, the load test itself) writes under `status`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.conditions import Condition
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.progress import Progress
from toxicity_api.results import DataFacts, DropFigures, EngineFigures, SourceFacts


class MadeWith(Document):
    """What a stage was made with, beside its fingerprint: enough to tell whether the spec still asks for its result."""

    operator: str | None = Field(None, description="operator: version of the operator that began it.")
    image: str | None = Field(
        None, description="image: reference of the image that ran; unset where it is unknown."
    )
    inputs: str = Field("", description="inputs: hash of what the spec asked of the stage when it began.")
    read_as: str = Field(
        "", description="readAs: hash of the same as the present operator reads it; differs after an upgrade."
    )
    placement: str = Field("", description="placement: hash of what decides how its pod runs, and not its result.")
    upstream: str | None = Field(
        None, description="upstream: fingerprint of the stage whose result it began from."
    )
    generation: int = Field(0, description="generation of the spec that was last found to ask for it.")
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="sources: version of each ConfigMap and Secret that it read, by kind/name.",
    )


class StageRecord(Document):
    """What is known of one stage Job; it outlives the Job, so that a finished stage is never run again."""

    fingerprint: str = Field(description="fingerprint of the stage's inputs.")
    job_name: str = Field("", description="jobName of the Job that ran it.")
    outcome: Literal["Running", "Succeeded", "Failed"] = Field("Running", description="outcome so far.")
    reason: str | None = Field(None, description="reason of a failure, or of a wait that has one of its own.")
    message: str | None = Field(None, description="message of a failure, or what a running stage waits for.")
    started_at: str | None = Field(None, description="startedAt, RFC 3339.")
    finished_at: str | None = Field(None, description="finishedAt, RFC 3339.")
    image_id: str | None = Field(None, description="imageID of the image that ran, as the node reports it.")
    made_with: MadeWith | None = Field(None, description="madeWith: what the stage was made with.")


class QualityFigures(Document):
    """Quality on the test split at the stage's own threshold; unset until the stage has succeeded."""

    f1: float | None = Field(None, description="f1 of the toxic class on the test split.")
    f1_low: float | None = Field(None, description="f1Low: lower end of the 95 % bootstrap interval of f1.")
    f1_high: float | None = Field(None, description="f1High: upper end of that interval.")
    macro_f1: float | None = Field(None, description="macroF1: mean of both classes' F1.")
    macro_f1_low: float | None = Field(None, description="macroF1Low: lower end of its 95 % interval.")
    macro_f1_high: float | None = Field(None, description="macroF1High: upper end of that interval.")
    precision: float | None = Field(None, description="precision of the toxic class.")
    recall: float | None = Field(None, description="recall of the toxic class.")
    roc_auc: float | None = Field(None, description="rocAuc of the score.")
    pr_auc: float | None = Field(None, description="prAuc: average precision of the score.")
    calibration_error: float | None = Field(None, description="calibrationError of the score, ten equal bins.")
    true_positives: int | None = Field(None, description="truePositives: toxic ones found.")
    false_positives: int | None = Field(None, description="falsePositives: harmless ones called toxic.")
    false_negatives: int | None = Field(None, description="falseNegatives: toxic ones missed.")
    true_negatives: int | None = Field(None, description="trueNegatives: harmless ones left alone.")
    distorted_f1: float | None = Field(None, description="distortedF1: f1 on the test split misspelt.")
    threshold: float | None = Field(None, description="threshold chosen on the validation split.")
    test_samples: int | None = Field(None, description="testSamples scored.")
    duration_seconds: float | None = Field(None, description="durationSeconds of the stage.")


class TrainingStatus(StageRecord, QualityFigures):
    train_samples: int | None = Field(None, description="trainSamples used.")
    loss: float | None = Field(None, description="loss: mean training loss.")
    max_input_length: int | None = Field(None, description="maxInputLength in tokens that was applied.")
    trainable_parameters: int | None = Field(None, description="trainableParameters of the adapter.")
    data: DataFacts | None = Field(None, description="data that was read and how it was split.")
    sources: SourceFacts | None = Field(None, description="sources: what a branch or a tag was resolved to.")
    image_digests: dict[str, str] = Field(
        default_factory=dict, description="imageDigests of dataset and baseModel, where they are images."
    )
    progress: Progress | None = Field(None, description="progress while the Job trains.")


class QuantizationStatus(StageRecord, QualityFigures):
    f1_drop: float | None = Field(None, description="f1Drop that quantization cost (negative: a gain).")
    macro_f1_drop: float | None = Field(None, description="macroF1Drop that quantization cost.")
    size_bytes: int | None = Field(None, description="sizeBytes of the weights.")
    original_size_bytes: int | None = Field(None, description="originalSizeBytes before quantization.")
    method: str | None = Field(None, description="method applied.")
    backend: str | None = Field(None, description="backend applied.")
    quantized_layers: int | None = Field(None, description="quantizedLayers: linear layers in 4 bit.")
    kept_layers: int | None = Field(None, description="keptLayers: linear layers left as they were.")
    mean_error: float | None = Field(
        None, description="meanError: relative error of the quantized layers' weights, their mean."
    )
    max_error: float | None = Field(None, description="maxError: that of the worst layer.")
    calibration_samples: int | None = Field(None, description="calibrationSamples used.")
    calibration_hash: str | None = Field(
        None, description="calibrationHash: sha256 over the token ids of the calibration prompts, in order."
    )


class EvaluationStatus(StageRecord, QualityFigures):
    """The serving engine's own figures of the weights that are to be served; unset until the stage has succeeded."""

    engine: str | None = Field(None, description="engine and its version.")
    original_f1: float | None = Field(None, description="originalF1 in the same engine before quantization.")
    original_macro_f1: float | None = Field(None, description="originalMacroF1, likewise.")
    drop: DropFigures | None = Field(None, description="drop that quantization cost, on the very same rows.")
    compiled_sha256: str | None = Field(
        None, description="compiledSha256 of what the engine compiled; the pods that serve take over nothing else."
    )
    figures: EngineFigures | None = Field(None, description="figures: speed and size of these weights.")
    original_figures: EngineFigures | None = Field(
        None, description="originalFigures before quantization: speed and size."
    )


class ServingStatus(Document):
    url: str = Field("", description="url of the Service inside the cluster.")
    selector: str | None = Field(None, description="selector of the serving pods, for the scale subresource.")
    replicas: int = Field(0, description="replicas that exist.")
    ready_replicas: int = Field(0, description="readyReplicas that answer.")
    model_fingerprint: str | None = Field(None, description="modelFingerprint that the ready replicas serve.")
    image_id: str | None = Field(None, description="imageID of the image that serves, as the node reports it.")
    fingerprint: str | None = Field(None, description="fingerprint of what the spec asks to be served.")
    made_with: MadeWith | None = Field(None, description="madeWith: what that was made with.")
    good_fingerprint: str | None = Field(
        None, description="goodFingerprint: the newest version that was rolled out whole and became ready."
    )
    failed_fingerprint: str | None = Field(
        None,
        description="failedFingerprint: a version that did not become ready in its deadline; not tried again.",
    )
    failed_message: str | None = Field(None, description="failedMessage: why it did not.")
    failed_for: str | None = Field(
        None, description="failedFor: fingerprint of what the spec asked to be served when that version failed."
    )


class LoadTestRecord(StageRecord):
    """What the operator itself knows of the load test's Job."""

    slot: str | None = Field(
        None, description="slot of loadTest.schedule that it ran for; unset for the spec's own."
    )


class LoadTestSchedule(Document):
    """Since when a schedule is known; it outlives the load test's record, which another model begins anew."""

    schedule: str = Field(description="schedule that loadTest.schedule says.")
    since: str = Field(description="since when it says that, RFC 3339; no moment before is run.")


class Outdated(Document):
    """One way in which what is there differs from what the operator would make now. Nothing of it runs by itself."""

    stage: Literal["training", "quantization", "evaluation", "serving"] = Field(
        description="stage that is outdated."
    )
    subject: str = Field(description="subject: what has changed: image, defaults, template, or a source.")
    made_with: str | None = Field(None, description="madeWith: what the stage was made with, where it is known.")
    present: str | None = Field(None, description="present: what it would be made with now.")
    message: str = Field("", description="message: what to do to make it anew.")


class Lineage(Document):
    """What the model that the spec asks for is made of; with the fingerprints, enough to tell two models apart."""

    dataset: str = Field(description="dataset: where the comments come from.")
    base_model: str = Field(description="baseModel that was fine-tuned.")
    dataset_revision: str | None = Field(
        None, description="datasetRevision: commit, version or image digest that was used."
    )
    base_model_revision: str | None = Field(
        None, description="baseModelRevision: commit or image digest, likewise."
    )
    split_hash: str | None = Field(None, description="splitHash: sha256 over the rows of the three splits.")
    calibration_hash: str | None = Field(None, description="calibrationHash of the calibration prompts.")
    engine: str | None = Field(None, description="engine that evaluated it, with its version.")
    revision: str | None = Field(None, description="revision: fingerprint of the stage that made its weights.")


class ToxicityModelStatus(Document):
    observed_generation: int | None = Field(None, description="observedGeneration of the spec that was acted on.")
    stage: str | None = Field(None, description="stage in one word, for people; derived from the conditions.")
    url: str | None = Field(
        None, description="url of the Service inside the cluster; unset while there is no Service."
    )
    conditions: list[Condition] = Field(default_factory=list, description="conditions, one of each type.")
    training: TrainingStatus | None = Field(None, description="training result.")
    quantization: QuantizationStatus | None = Field(None, description="quantization result.")
    evaluation: EvaluationStatus | None = Field(None, description="evaluation by the serving engine.")
    serving: ServingStatus | None = Field(None, description="serving state.")
    lineage: Lineage | None = Field(None, description="lineage of the model that the spec asks for.")
    outdated: list[Outdated] | None = Field(
        None, description="outdated: what was made with other images, defaults or sources than now."
    )
    load_test_job: LoadTestRecord | None = Field(None, description="loadTestJob as the operator sees it.")
    load_test_schedule: LoadTestSchedule | None = Field(
        None, description="loadTestSchedule that is in force; unset without one, or without a load test."
    )
    load_test: LoadTestStatus | None = Field(None, description="loadTest figures, written by the load test.")
