"""The training stage from configuration to published folder: read, split, train, merge, evaluate, publish."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from toxicity_api.results import StageResult, TrainingResult
from toxicity_api.stage_config import TrainingConfig
from toxicity_training.artifacts import MODEL_FOLDER, open_work_folder, publish
from toxicity_training.data import (
    Splits,
    cap_evaluation,
    read_dataset,
    sample,
    split_examples,
    summarise,
    write_splits,
)
from toxicity_training.measure import measure


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
    metrics = measure(merged, tokenizer, splits.validation, splits.test, spec, say)
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
