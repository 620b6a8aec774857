"""The quantization stage: load the merged model, calibrate, quantize, save, evaluate what was saved, publish."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from toxicity_api.results import QuantizationResult, StageResult, TrainingResult
from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import QuantizationConfig
from toxicity_quantization.calibrate import calibration_prompts
from toxicity_quantization.checkpoint import cast_to_bf16, require_quantized, weights_bytes
from toxicity_quantization.compress import quantize, save
from toxicity_training.artifacts import MODEL_FOLDER, input_result, open_work_folder, publish
from toxicity_training.data import read_split
from toxicity_training.errors import ModelError
from toxicity_training.measure import measure
from toxicity_training.report import write_evaluation


def say(message: str) -> None:
    """One line of the stage's log, at once."""
    print(f"quantization: {message}", flush=True)


def load(folder: Path, *, gpus: int) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder that a stage wrote: fp32 on CPU, bf16 on the accelerator when `gpus` > 0."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16 if gpus else torch.float32, use_safetensors=True, local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model.to("cuda" if gpus else "cpu"), tokenizer


def training_result(folder: Path) -> TrainingResult:
    """What the training stage left in `folder`. Raises ModelError when it has not succeeded."""
    training = input_result(folder).training
    if training is None:
        raise ModelError("InputMissing", f"{folder} is not the folder of a training stage")
    return training


def resolved(spec: TrainingSpec, trained: TrainingResult) -> TrainingSpec:
    """`spec` with the maxInputLength that the training applied, where it was `auto`."""
    return spec.model_copy(update={"max_input_length": trained.max_input_length or spec.max_input_length})


def run(config: QuantizationConfig) -> StageResult:
    """Quantizes, evaluates and publishes the stage's folder. Raises InputError for input that no retry cures."""
    started = time.monotonic()
    spec = config.quantization
    trained = training_result(config.input_dir)
    before, training = trained.metrics, resolved(config.training, trained)
    splits = config.input_dir / "splits"
    original_size = weights_bytes(config.input_dir / MODEL_FOLDER)

    model, tokenizer = load(config.input_dir / MODEL_FOLDER, gpus=spec.gpus)
    prompts = calibration_prompts(
        tokenizer,
        read_split(splits, "train"),
        training,
        spec.calibration_samples,
        spec.calibration_length,
    )
    say(f"{len(prompts)} calibration prompts, {sum(map(len, prompts))} tokens")
    quantize(model, prompts, spec)
    work = open_work_folder(config.output_dir)
    save(model, tokenizer, work / MODEL_FOLDER)
    del model
    cast_to_bf16(work / MODEL_FOLDER)
    size = require_quantized(work / MODEL_FOLDER, original_size)
    say(f"quantized in {time.monotonic() - started:.0f} s: {original_size} bytes before, {size} after")

    saved, tokenizer = load(work / MODEL_FOLDER, gpus=spec.gpus)
    validation, test = read_split(splits, "validation"), read_split(splits, "test")
    after = measure(saved, tokenizer, validation, test, training, say)
    write_evaluation(after, work / "evaluation")
    result = StageResult(
        stage="quantize",
        fingerprint=config.fingerprint,
        outcome="succeeded",
        quantization=QuantizationResult(
            metrics=after.metrics,
            f1_drop=before.f1 - after.metrics.f1,
            macro_f1_drop=before.macro_f1 - after.metrics.macro_f1,
            size_bytes=size,
            original_size_bytes=original_size,
            method=spec.method,
            backend=spec.backend,
            duration_seconds=round(time.monotonic() - started, 1),
        ),
    )
    publish(work, config.output_dir, result)
    return result
