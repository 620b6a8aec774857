"""The training stage from configuration to published folder: read, split, train, merge, evaluate, publish."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from toxicity_api.results import Metrics, StageResult, TrainingResult
from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_training.artifacts import MODEL_FOLDER, open_work_folder, publish
from toxicity_training.data import (
    Example,
    Splits,
    cap_evaluation,
    read_dataset,
    sample,
    split_examples,
    summarise,
    write_splits,
)
from toxicity_training.evaluate import choose_threshold, evaluate_scores
from toxicity_training.scoring import score_texts

EVALUATION_BATCH = 16


def say(message: str) -> None:
    """One line of the stage's log, at once."""
    print(f"training: {message}", flush=True)


def prepare(config: TrainingConfig) -> Splits:
    """The rows of each split. Raises DatasetError."""
    rows = read_dataset(config.dataset_path, config.text_column, config.label_column)
    say(f"data set: {summarise(rows)}")
    rows = sample(rows, config.training.max_samples, config.split.seed)
    splits = split_examples(rows, config.split)
    splits = cap_evaluation(splits, config.training.max_evaluation_samples, config.split.seed)
    for name, part in splits.items():
        say(f"{name}: {summarise(part)}")
    return splits


def score(model: Any, tokenizer: Any, examples: list[Example], spec: TrainingSpec) -> list[float]:
    """p(toxic) of each example with the stage's prompt and lengths."""
    return score_texts(
        model,
        tokenizer,
        [e.text for e in examples],
        template=spec.prompt_template,
        labels=spec.labels,
        max_tokens=spec.max_input_length,
        batch_size=EVALUATION_BATCH,
    )


def evaluate(model: Any, tokenizer: Any, splits: Splits, spec: TrainingSpec) -> Metrics:
    """Figures on the test split at the threshold that is best on the validation split."""
    started = time.monotonic()
    validation = score(model, tokenizer, splits.validation, spec)
    threshold = choose_threshold(validation, [e.toxic for e in splits.validation])
    test = score(model, tokenizer, splits.test, spec)
    metrics = evaluate_scores(test, [e.toxic for e in splits.test], threshold)
    say(
        f"evaluated in {time.monotonic() - started:.0f} s: F1 {metrics.f1:.3f}, macro F1 {metrics.macro_f1:.3f},"
        f" ROC-AUC {metrics.roc_auc:.3f} at threshold {metrics.threshold:.3f} on {metrics.test_samples} rows"
    )
    return metrics


def run(config: TrainingConfig) -> StageResult:
    """Trains, evaluates and publishes the stage's folder. Raises InputError for input that no retry cures."""
    started = time.monotonic()
    splits = prepare(config)

    # only now: data that cannot be used is refused at once, and without the heavy imports
    from transformers import set_seed

    from toxicity_training import model as models
    from toxicity_training.with_trainer import train

    spec = config.training
    set_seed(spec.seed)
    base, tokenizer = models.load_model(config.base_model_path, gpus=spec.gpus)
    adapted = models.add_lora(base, spec.lora)
    trainable, total = adapted.get_nb_trainable_parameters()
    say(f"model loaded in {time.monotonic() - started:.0f} s: {trainable} of {total} parameters are trained")

    work = open_work_folder(config.output_dir)
    training_started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        loss = train(adapted, tokenizer, splits.train, spec, Path(scratch))
    say(
        f"trained on {len(splits.train)} rows in {time.monotonic() - training_started:.0f} s, mean loss {loss:.4f}"
    )

    models.save_adapter(adapted, work / "adapter")
    merged = models.merge(adapted)
    metrics = evaluate(merged, tokenizer, splits, spec)
    models.save_merged(merged, tokenizer, work / MODEL_FOLDER)
    write_splits(splits, work / "splits")
    result = StageResult(
        stage="train",
        fingerprint=config.fingerprint,
        outcome="succeeded",
        training=TrainingResult(
            metrics=metrics,
            train_samples=len(splits.train),
            loss=loss,
            duration_seconds=round(time.monotonic() - started, 1),
        ),
    )
    publish(work, config.output_dir, result)
    return result
