"""The quantization stage: checks, quantizes, saves, verifies, evaluates and publishes a model."""

from __future__ import annotations

import time
from pathlib import Path

from toxicity_api.prompting import LabelTokens, LogitsNotFiniteError
from toxicity_api.results import QuantizationResult, StageResult, TrainingResult
from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import QuantizationConfig
from toxicity_quantization.backends import BACKENDS
from toxicity_quantization.calibrate import calibration_prompts, prompts_hash
from toxicity_quantization.checkpoint import complete, read_config, weights_bytes
from toxicity_quantization.proof import prove, require_sound, write_layers
from toxicity_quantization.refusals import INSTEAD, refuse_architecture
from toxicity_quantization.tensors import read_tensors
from toxicity_stage.artifacts import MODEL_FOLDER, input_result, open_work_folder, publish
from toxicity_stage.errors import ModelError
from toxicity_training.evaluation.measure import Evaluation, measure
from toxicity_training.model_card import add_quantization
from toxicity_training.prompts import find_label_tokens
from toxicity_training.report import write_evaluation
from toxicity_training.splits import read_split

SPLITS_FOLDER = "splits"
LAYERS_FILE = "layers.csv"


def say(message: str) -> None:
    """Prints one line of the stage's log, unbuffered."""
    print(f"quantization: {message}", flush=True)


def training_result(folder: Path) -> TrainingResult:
    """The result of the training stage in `folder`. Raises ModelError unless that stage has succeeded."""
    training = input_result(folder).training
    if training is None:
        raise ModelError("InputMissing", f"{folder} is not the folder of a training stage")
    return training


def resolved(spec: TrainingSpec, trained: TrainingResult) -> TrainingSpec:
    """`spec` with the normal form of the training, and the maxInputLength in tokens that it resolved `auto` to."""
    length = trained.max_input_length or spec.max_input_length
    return spec.with_normal_form(trained.normal_form or 0).model_copy(update={"max_input_length": length})


def run(config: QuantizationConfig) -> StageResult:
    """Quantizes, evaluates and publishes the stage's folder. Raises InputError for input that a retry does not cure."""
    started = time.monotonic()
    trained = training_result(config.input_dir)
    spec, training = config.quantization, resolved(config.training, trained)
    source = config.input_dir / MODEL_FOLDER
    original_size = weights_bytes(source)
    refuse_architecture(read_config(source), spec.backend, BACKENDS[spec.backend].known_architectures())
    original = read_tensors(source)
    require_sound(original)

    work = open_work_folder(config.output_dir)
    target = work / MODEL_FOLDER
    prompts, labels = make_checkpoint(config, training, target)
    proof = prove(original, read_tensors(target), read_config(target), spec)
    write_layers(proof.layers, work / LAYERS_FILE)
    size = weights_bytes(target)
    say(f"quantized in {time.monotonic() - started:.0f} s: {original_size} bytes before, {size} after; {proof}")

    after = evaluate(config, training, target, labels)
    write_evaluation(after, work / "evaluation")
    add_quantization(target, spec, after.metrics)
    result = StageResult(
        stage="quantize",
        fingerprint=config.fingerprint,
        outcome="succeeded",
        quantization=QuantizationResult(
            metrics=after.metrics,
            f1_drop=trained.metrics.f1 - after.metrics.f1,
            macro_f1_drop=trained.metrics.macro_f1 - after.metrics.macro_f1,
            size_bytes=size,
            original_size_bytes=original_size,
            method=spec.method,
            backend=spec.backend,
            duration_seconds=round(time.monotonic() - started, 1),
            quantized_layers=len(proof.layers),
            kept_layers=len(proof.kept),
            mean_error=proof.mean_error,
            max_error=proof.worst.error,
            calibration_samples=len(prompts),
            calibration_hash=prompts_hash(prompts),
        ),
    )
    return publish(work, config.output_dir, result)


def make_checkpoint(
    config: QuantizationConfig, training: TrainingSpec, target: Path
) -> tuple[list[list[int]], LabelTokens]:
    """Writes the quantized model to `target`; returns the calibration prompts and the label tokens of the training."""
    spec, source = config.quantization, config.input_dir / MODEL_FOLDER
    backend = BACKENDS[spec.backend]
    model, tokenizer = backend.load(source, gpus=spec.gpus)
    train = read_split(config.input_dir / SPLITS_FOLDER, "train")
    prompts = calibration_prompts(tokenizer, train, training, spec.calibration_samples, spec.calibration_length)
    say(
        f"{len(prompts)} calibration prompts, {sum(map(len, prompts))} tokens, sha256 {prompts_hash(prompts)[:12]}"
    )
    labels = find_label_tokens(tokenizer, training.labels)
    backend.quantize(model, prompts, spec)
    backend.save(model, target)
    complete(target, source)
    return prompts, labels


def evaluate(config: QuantizationConfig, training: TrainingSpec, target: Path, labels: LabelTokens) -> Evaluation:
    """The metrics of the saved model. Raises ModelError if its label tokens changed or a score is not finite."""
    spec = config.quantization
    model, tokenizer = BACKENDS[spec.backend].load(target, gpus=spec.gpus)
    require_same_labels(labels, find_label_tokens(tokenizer, training.labels))
    splits = config.input_dir / SPLITS_FOLDER
    validation, test = read_split(splits, "validation"), read_split(splits, "test")
    try:
        return measure(model, tokenizer, validation, test, training, say)
    except LogitsNotFiniteError as error:
        raise ModelError(
            "ScoresNotFinite",
            f"the quantized model's {error}; raise quantization.calibrationSamples, {INSTEAD}",
        ) from error


def require_same_labels(trained: LabelTokens, saved: LabelTokens) -> None:
    """Raises ModelError if the saved tokenizer encodes the labels differently from the trained one."""
    if saved != trained:
        raise ModelError(
            "LabelTokensChanged",
            f"the saved tokenizer has the label tokens {saved.toxic} and {saved.non_toxic}, the model was trained on"
            f" {trained.toxic} and {trained.non_toxic}; run again, {INSTEAD}",
        )
