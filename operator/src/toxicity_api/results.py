"""The result document that a stage leaves in its artifact folder and in the termination message."""

from __future__ import annotations

from itertools import accumulate, takewhile
from typing import Literal

from pydantic import Field
from pydantic_core import to_json

from toxicity_api.base import Document

EXIT_FAILED = 1
EXIT_INVALID_INPUT = 42
"""Exit code of a failure that no retry can cure; the Job's podFailurePolicy fails at once on it."""

TERMINATION_MESSAGE_LIMIT = 4096


class Metrics(Document):
    """Quality on the test split, at the threshold chosen on validation."""

    f1: float = Field(description="f1 of the toxic class.")
    macro_f1: float = Field(description="macroF1: mean of both classes' F1.")
    precision: float = Field(description="precision of the toxic class.")
    recall: float = Field(description="recall of the toxic class.")
    roc_auc: float = Field(description="rocAuc of the score.")
    threshold: float = Field(description="threshold of the score.")
    test_samples: int = Field(description="testSamples that were scored.")
    f1_low: float | None = Field(None, description="f1Low: lower end of the 95 % bootstrap interval of f1.")
    f1_high: float | None = Field(None, description="f1High: upper end of that interval.")
    macro_f1_low: float | None = Field(None, description="macroF1Low: lower end of macroF1's 95 % interval.")
    macro_f1_high: float | None = Field(None, description="macroF1High: upper end of that interval.")
    pr_auc: float | None = Field(None, description="prAuc: average precision of the score.")
    calibration_error: float | None = Field(
        None, description="calibrationError: expected calibration error of the score, ten equal bins."
    )
    true_positives: int | None = Field(None, description="truePositives: toxic ones found.")
    false_positives: int | None = Field(None, description="falsePositives: harmless ones called toxic.")
    false_negatives: int | None = Field(None, description="falseNegatives: toxic ones missed.")
    true_negatives: int | None = Field(None, description="trueNegatives: harmless ones left alone.")
    distorted_f1: float | None = Field(
        None, description="distortedF1: f1 on a copy of the test split with distorted spelling."
    )


class DataFacts(Document):
    """What was read, counted before anything is drawn from it, and the split that came out."""

    rows: int = Field(description="rows read.")
    toxic: int = Field(description="toxic rows among them.")
    duplicates: int = Field(description="duplicates: rows beyond the first of texts equal after normalisation.")
    contradictions: int = Field(description="contradictions: such texts that carry both labels.")
    split_hash: str = Field(description="splitHash: sha256 over every row of the three splits, in order.")


class SourceFacts(Document):
    """What exactly was downloaded; a branch or a tag is resolved once."""

    dataset_commit: str | None = Field(
        None, description="datasetCommit of the data set on the hub; on Kaggle its version, such as `version 3`."
    )
    base_model_commit: str | None = Field(None, description="baseModelCommit of the base model on the hub.")


class TrainingResult(Document):
    metrics: Metrics = Field(description="metrics of the merged model.")
    train_samples: int = Field(description="trainSamples that were used.")
    loss: float = Field(description="loss: mean training loss.")
    duration_seconds: float = Field(description="durationSeconds of the stage.")
    max_input_length: int | None = Field(None, description="maxInputLength in tokens that was applied.")
    trainable_parameters: int | None = Field(None, description="trainableParameters of the adapter.")
    data: DataFacts | None = Field(None, description="data that was read and how it was split.")
    sources: SourceFacts | None = Field(None, description="sources that were downloaded; unset where none was.")


class QuantizationResult(Document):
    metrics: Metrics = Field(description="metrics of the quantized model, at its own threshold.")
    f1_drop: float = Field(description="f1Drop: toxic F1 before minus after.")
    macro_f1_drop: float = Field(description="macroF1Drop: macro F1 before minus after.")
    size_bytes: int = Field(description="sizeBytes of the weights after.")
    original_size_bytes: int = Field(description="originalSizeBytes of the weights before.")
    method: str = Field(description="method that was applied.")
    backend: str = Field(description="backend that applied it.")
    duration_seconds: float = Field(description="durationSeconds of the stage.")
    quantized_layers: int | None = Field(None, description="quantizedLayers: linear layers in 4 bit.")
    kept_layers: int | None = Field(None, description="keptLayers: linear layers left as they were.")
    mean_error: float | None = Field(
        None, description="meanError: relative error of the quantized layers' weights, their mean."
    )
    max_error: float | None = Field(None, description="maxError: that of the worst layer.")
    calibration_samples: int | None = Field(None, description="calibrationSamples that were used.")
    calibration_hash: str | None = Field(
        None, description="calibrationHash: sha256 over the token ids of the calibration prompts, in order."
    )


class EngineFigures(Document):
    """One model folder in the serving engine: what it costs and how fast it answers, all texts offered at once."""

    weights: str = Field(description="weights: native-4bit, decompressed or unquantized.")
    load_seconds: float = Field(description="loadSeconds until the first answer.")
    texts_per_second: float = Field(description="textsPerSecond on the test split.")
    memory_bytes: int = Field(description="memoryBytes: proportional memory of the engine's processes.")


class DropFigures(Document):
    """What quantization cost on the very same rows; `low` and `high` end the paired 95 % bootstrap interval."""

    f1_drop: float = Field(description="f1Drop: toxic F1 before minus after.")
    f1_drop_low: float = Field(description="f1DropLow: lower end of its interval.")
    f1_drop_high: float = Field(description="f1DropHigh: upper end of its interval.")
    macro_f1_drop: float = Field(description="macroF1Drop: macro F1 before minus after.")
    macro_f1_drop_low: float = Field(description="macroF1DropLow: lower end of its interval.")
    macro_f1_drop_high: float = Field(description="macroF1DropHigh: upper end of its interval.")
    agreement: float = Field(description="agreement: share of rows with the same decision before and after.")


class EvaluationResult(Document):
    """The serving engine's own figures on the test split, at the threshold that is best on validation."""

    engine: str = Field(description="engine and its version.")
    metrics: Metrics = Field(description="metrics of the weights that are to be served.")
    figures: EngineFigures = Field(description="figures of these weights.")
    original_metrics: Metrics | None = Field(None, description="originalMetrics before quantization.")
    original_figures: EngineFigures | None = Field(None, description="originalFigures before quantization.")
    drop: DropFigures | None = Field(None, description="drop that quantization cost; unset without it.")
    compiled_sha256: str | None = Field(
        None, description="compiledSha256 of what the engine compiled, left for serving."
    )
    duration_seconds: float = Field(description="durationSeconds of the stage.")


class StageResult(Document):
    """What a stage Job says at its end, also when it fails."""

    stage: Literal["train", "quantize", "evaluate", "loadtest"]
    fingerprint: str
    outcome: Literal["succeeded", "failed"]
    reason: str = "Succeeded"
    message: str = ""
    training: TrainingResult | None = None
    quantization: QuantizationResult | None = None
    evaluation: EvaluationResult | None = None

    def to_termination_message(self) -> str:
        """The document as JSON of at most TERMINATION_MESSAGE_LIMIT bytes; a message that is too long for it is cut.

        Cut by what each character takes in JSON: two bytes and more outside of Latin, and where it is escaped.
        """
        text = self._with_message(self.message)
        if len(text.encode()) <= TERMINATION_MESSAGE_LIMIT:
            return text
        room = TERMINATION_MESSAGE_LIMIT - len(self._with_message("…").encode())
        ends = accumulate(len(to_json(character)) - len('""') for character in self.message)
        kept = sum(1 for _ in takewhile(lambda end: end <= room, ends))
        return self._with_message(self.message[:kept] + "…")

    def _with_message(self, message: str) -> str:
        return self.model_copy(update={"message": message}).model_dump_json(by_alias=True, exclude_none=True)
