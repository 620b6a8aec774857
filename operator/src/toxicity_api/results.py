"""The result document that a stage writes to its artifact folder and to the termination message."""

from __future__ import annotations

from itertools import accumulate, takewhile
from typing import Literal

from pydantic import Field
from pydantic_core import to_json

from toxicity_api.base import Document

EXIT_FAILED = 1
EXIT_INVALID_INPUT = 42
"""Exit code of a failure that a retry cannot fix. The podFailurePolicy then fails the Job without a retry."""

TERMINATION_MESSAGE_LIMIT = 4096

MAX_FOLDERS = 20
"""Number of folders in a result, which must fit into a termination message."""


class Metrics(Document):
    """Quality on the test split, at the threshold selected on the validation split."""

    f1: float = Field(description="F1 of the toxic class.")
    macro_f1: float = Field(description="Mean of both classes' F1.")
    precision: float = Field(description="Precision of the toxic class.")
    recall: float = Field(description="Recall of the toxic class.")
    roc_auc: float = Field(description="Area under the ROC curve of the score.")
    threshold: float = Field(description="Threshold of the score.")
    test_samples: int = Field(description="Number of scored rows of the test split.")
    f1_low: float | None = Field(None, description="Lower end of the 95 % bootstrap interval of f1.")
    f1_high: float | None = Field(None, description="Upper end of the 95 % bootstrap interval of f1.")
    macro_f1_low: float | None = Field(None, description="Lower end of the 95 % bootstrap interval of macroF1.")
    macro_f1_high: float | None = Field(None, description="Upper end of the 95 % bootstrap interval of macroF1.")
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


class HeldOutFigures(Document):
    """Figures on a test set at the threshold of the weights, with four decimals."""

    name: str = Field(description="Name of the test set.")
    rows: int = Field(description="Number of scored rows.")
    left_out: int = Field(
        description="Number of rows left out, since the training or validation rows have their text."
    )
    f1: float = Field(description="F1 of the toxic class.")
    f1_low: float = Field(description="Lower end of the 95 % bootstrap interval of f1.")
    f1_high: float = Field(description="Upper end of the 95 % bootstrap interval of f1.")
    macro_f1: float = Field(description="Mean of both classes' F1.")
    macro_f1_low: float = Field(description="Lower end of the 95 % bootstrap interval of macroF1.")
    macro_f1_high: float = Field(description="Upper end of the 95 % bootstrap interval of macroF1.")
    roc_auc: float = Field(description="Area under the ROC curve of the score.")
    original_f1: float | None = Field(None, description="F1 of the toxic class before quantization.")


class DataFacts(Document):
    """Counts of all rows read, before any sampling, and the hash of the splits."""

    rows: int = Field(description="Number of rows read.")
    toxic: int = Field(description="Number of toxic rows among them.")
    duplicates: int = Field(description="Number of rows that repeat a text, compared after normalization.")
    contradictions: int = Field(description="Number of repeated texts that have both labels.")
    split_hash: str = Field(description="sha256 of all rows of the three splits, in order.")


class SourceFacts(Document):
    """Exact versions of the downloads. A branch or a tag is resolved once."""

    dataset_commit: str | None = Field(
        None,
        description="Commit of the dataset on the Hugging Face Hub, or its version on Kaggle, such as `version 3`.",
    )
    base_model_commit: str | None = Field(None, description="Commit of the base model on the Hugging Face Hub.")


class TrainingResult(Document):
    metrics: Metrics = Field(description="Metrics of the merged model.")
    train_samples: int = Field(description="Number of training rows used.")
    loss: float = Field(description="Mean training loss.")
    duration_seconds: float = Field(description="Duration of the stage, in seconds.")
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


class QuantizationResult(Document):
    metrics: Metrics = Field(description="Metrics of the quantized model, at its own threshold.")
    f1_drop: float = Field(description="F1 of the toxic class before quantization minus after.")
    macro_f1_drop: float = Field(description="Macro F1 before quantization minus after.")
    size_bytes: int = Field(description="Size of the weights after quantization, in bytes.")
    original_size_bytes: int = Field(description="Size of the weights before quantization, in bytes.")
    method: str = Field(description="Quantization method that was applied.")
    backend: str = Field(description="Library that applied it.")
    duration_seconds: float = Field(description="Duration of the stage, in seconds.")
    quantized_layers: int | None = Field(None, description="Number of linear layers in 4 bit.")
    kept_layers: int | None = Field(None, description="Number of linear layers that were not quantized.")
    mean_error: float | None = Field(None, description="Mean relative error of the quantized layers' weights.")
    max_error: float | None = Field(None, description="Largest relative error of a quantized layer's weights.")
    calibration_samples: int | None = Field(None, description="Number of calibration prompts used.")
    calibration_hash: str | None = Field(
        None, description="sha256 of the token ids of the calibration prompts, in order."
    )


class EngineFigures(Document):
    """Size and speed of one model folder in the serving engine, with all texts submitted at once."""

    weights: str = Field(description="Form of the loaded weights: native-4bit, decompressed or unquantized.")
    load_seconds: float = Field(description="Time until the first answer, in seconds.")
    texts_per_second: float = Field(description="Texts per second on the test split.")
    memory_bytes: int = Field(description="Proportional set size of the engine's processes, in bytes.")


class DropFigures(Document):
    """Drop in quality by quantization on the same rows, with paired 95 % bootstrap intervals."""

    f1_drop: float = Field(description="F1 of the toxic class before quantization minus after.")
    f1_drop_low: float = Field(description="Lower end of the 95 % interval of f1Drop.")
    f1_drop_high: float = Field(description="Upper end of the 95 % interval of f1Drop.")
    macro_f1_drop: float = Field(description="Macro F1 before quantization minus after.")
    macro_f1_drop_low: float = Field(description="Lower end of the 95 % interval of macroF1Drop.")
    macro_f1_drop_high: float = Field(description="Upper end of the 95 % interval of macroF1Drop.")
    agreement: float = Field(description="Share of rows with the same decision before and after quantization.")


class EvaluationResult(Document):
    """Figures of the serving engine on the test split, at the threshold selected on the validation split."""

    engine: str = Field(description="Name and version of the serving engine.")
    metrics: Metrics = Field(description="Metrics of the weights to be served.")
    figures: EngineFigures = Field(description="Speed and size of the weights to be served.")
    original_metrics: Metrics | None = Field(None, description="Metrics of the weights before quantization.")
    original_figures: EngineFigures | None = Field(
        None, description="Speed and size of the weights before quantization."
    )
    drop: DropFigures | None = Field(
        None, description="Drop in quality by quantization. Unset without quantization."
    )
    test_sets: list[HeldOutFigures] = Field(default_factory=list, description="Figures on evaluation.testSets.")
    compiled_sha256: str | None = Field(
        None, description="sha256 of the code that the engine compiled and left for serving."
    )
    duration_seconds: float = Field(description="Duration of the stage, in seconds.")


class FolderSize(Document):
    name: str = Field(description="Name of the folder: a stage and its fingerprint, or a download.")
    size_bytes: int = Field(description="Space of the folder and of its checkpoints, in bytes.")


class StorageFigures(Document):
    """Space that the artifacts use at the end of a stage."""

    used_bytes: int = Field(
        description="Space of all folders of the model, in bytes. In an object store, of those that it made."
    )
    free_bytes: int | None = Field(
        None, description="Free space of the volume's file system, in bytes. Unset with an object store."
    )
    folders: list[FolderSize] = Field(
        default_factory=list, max_length=MAX_FOLDERS, description="Largest folders, the largest first."
    )


class StageResult(Document):
    """Result of a stage Job, which also a failed Job writes."""

    stage: Literal["train", "quantize", "evaluate", "loadtest"]
    fingerprint: str
    outcome: Literal["succeeded", "failed"]
    reason: str = "Succeeded"
    message: str = ""
    training: TrainingResult | None = None
    quantization: QuantizationResult | None = None
    evaluation: EvaluationResult | None = None
    storage: StorageFigures | None = None

    def to_termination_message(self) -> str:
        """Return the document as JSON of at most TERMINATION_MESSAGE_LIMIT bytes. A longer message is cut.

        A document that is too long loses its storage figures first.
        The cut counts the bytes of each character in JSON: several for Cyrillic and for escaped characters.
        """
        text = self._with_message(self.message)
        if len(text.encode()) <= TERMINATION_MESSAGE_LIMIT:
            return text
        if self.storage is not None:
            return self.model_copy(update={"storage": None}).to_termination_message()
        room = TERMINATION_MESSAGE_LIMIT - len(self._with_message("…").encode())
        ends = accumulate(len(to_json(character)) - len('""') for character in self.message)
        kept = sum(1 for _ in takewhile(lambda end: end <= room, ends))
        return self._with_message(self.message[:kept] + "…")

    def _with_message(self, message: str) -> str:
        return self.model_copy(update={"message": message}).model_dump_json(by_alias=True, exclude_none=True)
