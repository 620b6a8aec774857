"""The observed state, which the operator writes under `status`. The load test writes `loadTest`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.conditions import Condition
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.progress import Progress
from toxicity_api.results import (
    DataFacts,
    DropFigures,
    EngineFigures,
    HeldOutFigures,
    SourceFacts,
    StorageFigures,
)
from toxicity_api.spec.quality import MAX_TEST_SETS


class MadeWith(Document):
    """Inputs and versions of a stage, from which the operator sees whether the spec still requests its result."""

    operator: str | None = Field(None, description="Version of the operator that started the stage.")
    image: str | None = Field(None, description="Reference of the image that ran. Unset if unknown.")
    inputs: str = Field("", description="Hash of the inputs that the spec requested when the stage started.")
    read_as: str = Field(
        "", description="Hash of the same inputs as the current operator computes it. An upgrade can change it."
    )
    placement: str = Field(
        "", description="Hash of the fields that affect where and how the pod runs, and not its result."
    )
    upstream: str | None = Field(None, description="Fingerprint of the stage whose result it used.")
    normal_form: int | None = Field(
        None, description="Version of the normal form that a training was asked for. Unset means none."
    )
    generation: int = Field(0, description="Last generation of the spec that requested this result.")
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="Version of each ConfigMap and Secret that the stage read, by kind/name.",
    )


class StageRecord(Document):
    """Record of one stage Job. It outlives the Job, so that a finished stage does not run again."""

    fingerprint: str = Field(description="Fingerprint of the stage's inputs.")
    job_name: str = Field("", description="Name of the Job that ran the stage.")
    outcome: Literal["Running", "Succeeded", "Failed"] = Field(
        "Running", description="Outcome of the stage so far."
    )
    reason: str | None = Field(None, description="Reason of a failure, or of a wait that has a specific reason.")
    message: str | None = Field(None, description="Details of a failure, or what a running stage waits for.")
    started_at: str | None = Field(None, description="Start time, RFC 3339.")
    finished_at: str | None = Field(None, description="End time, RFC 3339.")
    image_id: str | None = Field(None, description="ID of the image that ran, as the node reports it.")
    made_with: MadeWith | None = Field(None, description="Inputs and versions that produced the result.")


class QualityFigures(Document):
    """Quality on the test split at the stage's threshold. Unset until the stage has succeeded."""

    f1: float | None = Field(None, description="F1 of the toxic class on the test split.")
    f1_low: float | None = Field(None, description="Lower end of the 95 % bootstrap interval of f1.")
    f1_high: float | None = Field(None, description="Upper end of the 95 % bootstrap interval of f1.")
    macro_f1: float | None = Field(None, description="Mean of both classes' F1.")
    macro_f1_low: float | None = Field(None, description="Lower end of the 95 % bootstrap interval of macroF1.")
    macro_f1_high: float | None = Field(None, description="Upper end of the 95 % bootstrap interval of macroF1.")
    precision: float | None = Field(None, description="Precision of the toxic class.")
    recall: float | None = Field(None, description="Recall of the toxic class.")
    roc_auc: float | None = Field(None, description="Area under the ROC curve of the score.")
    pr_auc: float | None = Field(None, description="Average precision of the score.")
    calibration_error: float | None = Field(
        None, description="Expected calibration error of the score, with ten equal bins."
    )
    true_positives: int | None = Field(None, description="Number of toxic rows classified as toxic.")
    false_positives: int | None = Field(None, description="Number of non-toxic rows classified as toxic.")
    false_negatives: int | None = Field(None, description="Number of toxic rows classified as non-toxic.")
    true_negatives: int | None = Field(None, description="Number of non-toxic rows classified as non-toxic.")
    distorted_f1: float | None = Field(
        None,
        description="F1 of the toxic class on a copy of the test split with spelling that evades filters:"
        " look-alikes, digits, spaces and dots in words. The normal form and the augmentation address it.",
    )
    distorted_f1_low: float | None = Field(
        None, description="Lower end of the 95 % bootstrap interval of distortedF1."
    )
    distorted_f1_high: float | None = Field(
        None, description="Upper end of the 95 % bootstrap interval of distortedF1."
    )
    misspelled_f1: float | None = Field(
        None,
        description="F1 of the toxic class on a copy of the test split with misspellings that neither the training"
        " uses nor the normal form undoes.",
    )
    threshold: float | None = Field(None, description="Threshold of the score, selected on the validation split.")
    test_samples: int | None = Field(None, description="Number of scored rows of the test split.")
    duration_seconds: float | None = Field(None, description="Duration of the stage, in seconds.")


class TrainingStatus(StageRecord, QualityFigures):
    train_samples: int | None = Field(None, description="Number of training rows used.")
    loss: float | None = Field(None, description="Mean training loss.")
    max_input_length: int | None = Field(
        None, description="Maximum length of a prompt that was applied, in tokens."
    )
    normal_form: int | None = Field(
        None, description="Version of the normal form of the texts. Unset means that they were used as they are."
    )
    trainable_parameters: int | None = Field(None, description="Number of trainable parameters of the adapter.")
    steps: int | None = Field(None, description="Number of optimizer steps that were run.")
    best_step: int | None = Field(
        None, description="Step whose adapter was kept. Unset without validation during training."
    )
    data: DataFacts | None = Field(None, description="Data that was read, and its splits.")
    sources: SourceFacts | None = Field(
        None, description="Exact versions of the downloads. Unset without a download."
    )
    image_digests: dict[str, str] = Field(
        default_factory=dict, description="Image digests of dataset and baseModel, where they are images."
    )
    progress: Progress | None = Field(None, description="Progress of the training while the Job runs.")


class QuantizationStatus(StageRecord, QualityFigures):
    f1_drop: float | None = Field(
        None, description="F1 of the toxic class before quantization minus after. Negative means a gain."
    )
    macro_f1_drop: float | None = Field(
        None, description="Macro F1 before quantization minus after. Negative means a gain."
    )
    size_bytes: int | None = Field(None, description="Size of the weights after quantization, in bytes.")
    original_size_bytes: int | None = Field(None, description="Size of the weights before quantization, in bytes.")
    method: str | None = Field(None, description="Quantization method that was applied.")
    backend: str | None = Field(None, description="Library that applied it.")
    quantized_layers: int | None = Field(None, description="Number of linear layers in 4 bit.")
    kept_layers: int | None = Field(None, description="Number of linear layers that were not quantized.")
    mean_error: float | None = Field(None, description="Mean relative error of the quantized layers' weights.")
    max_error: float | None = Field(None, description="Largest relative error of a quantized layer's weights.")
    calibration_samples: int | None = Field(None, description="Number of calibration prompts used.")
    calibration_hash: str | None = Field(
        None, description="sha256 of the token ids of the calibration prompts, in order."
    )


class EvaluationStatus(StageRecord, QualityFigures):
    """Figures of the serving engine for the weights to be served. Unset until the stage has succeeded."""

    engine: str | None = Field(None, description="Name and version of the serving engine.")
    original_f1: float | None = Field(
        None, description="F1 of the toxic class in the same engine before quantization."
    )
    original_macro_f1: float | None = Field(None, description="Macro F1 in the same engine before quantization.")
    drop: DropFigures | None = Field(None, description="Drop in quality by quantization, on the same rows.")
    test_sets: list[HeldOutFigures] = Field(
        default_factory=list, max_length=MAX_TEST_SETS, description="Figures on evaluation.testSets."
    )
    compiled_sha256: str | None = Field(
        None,
        description="sha256 of the code that the engine compiled. Serving pods accept no other compiled code.",
    )
    figures: EngineFigures | None = Field(None, description="Speed and size of the weights to be served.")
    original_figures: EngineFigures | None = Field(
        None, description="Speed and size of the weights before quantization."
    )


class ServingStatus(Document):
    url: str = Field("", description="URL of the Service inside the cluster.")
    selector: str | None = Field(
        None, description="Label selector of the serving pods, for the scale subresource."
    )
    replicas: int = Field(0, description="Number of replicas that exist.")
    ready_replicas: int = Field(0, description="Number of ready replicas.")
    model_fingerprint: str | None = Field(
        None, description="Fingerprint of the model that the ready replicas serve."
    )
    image_id: str | None = Field(None, description="ID of the serving image, as the node reports it.")
    fingerprint: str | None = Field(None, description="Fingerprint of the version that the spec requests.")
    made_with: MadeWith | None = Field(
        None, description="Inputs and versions of the version that the spec requests."
    )
    good_fingerprint: str | None = Field(
        None, description="Fingerprint of the newest version that was rolled out completely and became ready."
    )
    failed_fingerprint: str | None = Field(
        None,
        description="Fingerprint of a version that did not become ready in progressDeadlineSeconds, or that its load"
        " test found slower. It is not retried.",
    )
    failed_message: str | None = Field(
        None, description="Reason why that version did not become ready, or the figures that became worse."
    )
    failed_for: str | None = Field(
        None, description="Fingerprint of the version that the spec requested when the rollout failed."
    )
    failed_in_run: str | None = Field(
        None,
        description="Value of loadTest.runId of the load test that found that version slower. Another value retries the"
        " version. Unset if the version did not become ready.",
    )
    previous_fingerprint: str | None = Field(
        None,
        description="Fingerprint of the version that is restored if the load test finds the good one slower. Unset"
        " without loadTest.onRegression: RollBack, and when the load test has succeeded.",
    )


class LoadTestRecord(StageRecord):
    """Record of the load test's Job, which the operator writes."""

    slot: str | None = Field(
        None,
        description="Scheduled time of loadTest.schedule that the Job ran for. Unset for the run that the spec"
        " requests.",
    )


class LoadTestSchedule(Document):
    """Start of a schedule. It outlives the load test's record, which a new model replaces."""

    schedule: str = Field(description="Value of loadTest.schedule in the spec.")
    since: str = Field(
        description="Time when the operator first saw this schedule, RFC 3339. Earlier scheduled times are not run."
    )


class Outdated(Document):
    """A difference between a stage's result and what the operator would make now. It causes no new run."""

    stage: Literal["training", "quantization", "evaluation", "serving"] = Field(description="Outdated stage.")
    subject: str = Field(description="What has changed: image, defaults, template, or a source.")
    made_with: str | None = Field(None, description="Value that the stage was made with. Unset if unknown.")
    present: str | None = Field(None, description="Value that the stage would be made with now.")
    message: str = Field("", description="How to make the stage again.")


class Lineage(Document):
    """Origin of the model that the spec requests. With the fingerprints it identifies the model."""

    dataset: str = Field(description="Source of the comments.")
    base_model: str = Field(description="Base model that was fine-tuned.")
    dataset_revision: str | None = Field(None, description="Commit, version or image digest of the dataset.")
    base_model_revision: str | None = Field(None, description="Commit or image digest of the base model.")
    split_hash: str | None = Field(None, description="sha256 of all rows of the three splits.")
    calibration_hash: str | None = Field(None, description="sha256 of the token ids of the calibration prompts.")
    engine: str | None = Field(None, description="Name and version of the engine that evaluated the model.")
    revision: str | None = Field(None, description="Fingerprint of the stage that made the weights.")


class StorageStatus(StorageFigures):
    """Space that the artifacts used when the last stage ended."""

    measured_at: str = Field(description="End of the stage that measured it, RFC 3339.")


class ToxicityModelStatus(Document):
    observed_generation: int | None = Field(
        None, description="Generation of the spec that the operator last acted on."
    )
    stage: str | None = Field(
        None, description="Current stage in one word, for people. It is derived from the conditions."
    )
    url: str | None = Field(
        None,
        description="URL for clients: that of serving.expose once its route exists, else that of the Service inside the"
        " cluster. Unset while there is no Service.",
    )
    conditions: list[Condition] = Field(
        default_factory=list, description="Conditions of the resource, one per type."
    )
    training: TrainingStatus | None = Field(None, description="Result of the training.")
    quantization: QuantizationStatus | None = Field(None, description="Result of the quantization.")
    evaluation: EvaluationStatus | None = Field(
        None, description="Result of the evaluation by the serving engine."
    )
    serving: ServingStatus | None = Field(None, description="State of serving.")
    storage: StorageStatus | None = Field(
        None, description="Disk space of the artifact volume. Unset until a stage has ended."
    )
    lineage: Lineage | None = Field(None, description="Origin of the model that the spec requests.")
    outdated: list[Outdated] | None = Field(
        None, description="Stages that were made with other images, defaults or sources than the current ones."
    )
    load_test_job: LoadTestRecord | None = Field(None, description="State of the load test's Job.")
    load_test_schedule: LoadTestSchedule | None = Field(
        None,
        description="Schedule of the load test that is in force. Unset without a schedule or without a load test.",
    )
    load_test: LoadTestStatus | None = Field(
        None, description="Figures of the load test, written by the load test itself."
    )
