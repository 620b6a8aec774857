"""The training stage: reads and splits the data set, trains, merges, evaluates and publishes the folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toxicity_api.normal_form.folder import write_normal_form
from toxicity_api.results import DataFacts, StageResult, TrainingResult
from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_stage.artifacts import MODEL_FOLDER, open_work_folder, publish, succeeded_result
from toxicity_stage.ranks import is_main, launch, leave_group, needs_launch, processes, reported_failure
from toxicity_training.dataset import Example, summarise
from toxicity_training.eda import auto_length
from toxicity_training.engines.checkpoints import checkpoints_folder, open_checkpoints, remove_checkpoints
from toxicity_training.engines.rows import EpochRows, training_rows
from toxicity_training.engines.validation import BestAdapter
from toxicity_training.evaluation.measure import Evaluation, measure
from toxicity_training.evaluation.scoring import validation_loss
from toxicity_training.model_card import write_card
from toxicity_training.precision import autocast, precision
from toxicity_training.prompts import pad_id_of, prompt_lengths
from toxicity_training.report import write_eda, write_evaluation
from toxicity_training.sources.commits import source_facts
from toxicity_training.sources.files import read_dataset
from toxicity_training.splits import Splits, cap_evaluation, sample, split_examples, split_hash, write_splits
from toxicity_training.tracking import Tracking, open_tracking

ADAPTER_FOLDER = "adapter"


@dataclass(frozen=True)
class Prepared:
    """All rows of the data set, the splits drawn from them, and the facts for the result."""

    rows: list[Example]
    splits: Splits
    facts: DataFacts


@dataclass(frozen=True)
class Trained:
    """A finished training: the spec with resolved lengths, the loss of each optimizer step, and the validations."""

    spec: TrainingSpec
    losses: list[float]
    trainable_parameters: int
    best: BestAdapter


Engine = Callable[
    [Any, EpochRows, int, TrainingSpec, Path, Callable[[str], None], BestAdapter, Tracking], list[float]
]
"""(model, rows, padding id, spec, checkpoint folder, log, best adapter, tracking) to the loss of each step."""


def say(message: str) -> None:
    """Prints one line of the stage's log, unbuffered."""
    print(f"training: {message}", flush=True)


def prepare(config: TrainingConfig) -> Prepared:
    """Reads and splits the data set. Raises DatasetError."""
    rows = read_dataset(config.dataset_path, config.text_column, config.label_column)
    summary = summarise(rows)
    say(f"data set: {summary}")
    splits = split_examples(rows, config.split, config.training.max_samples)
    splits = cap_evaluation(splits, config.training.max_evaluation_samples, config.split.seed)
    for name, part in splits.items():
        say(f"{name}: {summarise(part)}")
    facts = DataFacts(
        rows=summary.rows,
        toxic=summary.toxic,
        duplicates=summary.duplicates,
        contradictions=summary.contradictions,
        split_hash=split_hash(splits),
    )
    return Prepared(rows, splits, facts)


def run(config: TrainingConfig) -> StageResult | None:
    """Trains, evaluates and publishes the stage's folder; returns None in processes other than rank 0.

    Raises InputError for input that a retry does not cure.
    """
    started = time.monotonic()
    # first of all, so that an invalid data set fails before the heavy imports and before other processes start
    prepared = prepare(config)
    if needs_launch(config.training.gpus, os.environ):
        return _launch(config)
    work = _open_folders(config.output_dir) if is_main(os.environ) else None
    with open_tracking(config, work, say) as tracking:
        trained = train(config, prepared.splits, work, tracking)
        if work is None:
            return None
        merge(config, work)
        evaluation = _evaluate(prepared, trained, work)
        tracking.evaluated(evaluation.metrics, len(trained.losses))
    training = TrainingResult(
        metrics=evaluation.metrics,
        train_samples=len(prepared.splits.train),
        loss=sum(trained.losses) / len(trained.losses),
        duration_seconds=round(time.monotonic() - started, 1),
        max_input_length=trained.spec.max_input_tokens,
        normal_form=trained.spec.normal_form or None,
        trainable_parameters=trained.trainable_parameters,
        steps=len(trained.losses),
        best_step=trained.best.best_step,
        data=prepared.facts,
        sources=source_facts(config.dataset_path, config.base_model_path),
    )
    write_card(work / MODEL_FOLDER, config, trained.spec, training)
    result = StageResult(stage="train", fingerprint=config.fingerprint, outcome="succeeded", training=training)
    result = publish(work, config.output_dir, result)
    remove_checkpoints(config.output_dir)
    return result


def _open_folders(final: Path) -> Path:
    """Creates this attempt's temporary folder, and the checkpoint folder from which all its processes resume."""
    open_checkpoints(final)
    return open_work_folder(final)


def _launch(config: TrainingConfig) -> StageResult:
    """Trains in one process per GPU; rank 0 publishes the folder that contains the result.

    Raises RankFailure with the failure that a process reported.
    """
    say(f"starting {config.training.gpus} processes, one per GPU")
    with TemporaryDirectory(prefix="ranks-") as failures:
        arguments = ["--termination-log", os.devnull, "--rank-failures", failures]
        code = launch("toxicity_training", config.training.gpus, arguments)
        result = succeeded_result(config.output_dir)
        if result is not None:
            return result
        raise reported_failure(Path(failures)) or RuntimeError(
            f"the training processes ended with {code} and left no result"
        )


def train(config: TrainingConfig, splits: Splits, work: Path | None, tracking: Tracking) -> Trained:
    """Trains the adapter and saves it to `work`, in processes that have one."""
    from transformers import set_seed

    from toxicity_training import model as models

    started = time.monotonic()
    set_seed(config.training.seed)
    base, tokenizer = models.load_model(config.base_model_path, config.training)
    spec = resolve_length(config.training, tokenizer, splits.train)
    adapted = models.add_lora(base, spec)
    trainable, total = adapted.get_nb_trainable_parameters()
    say(
        f"model loaded in {time.monotonic() - started:.0f} s: {trainable} of {total} parameters are trained"
        f" in {precision(spec)}"
    )
    rows = training_rows(tokenizer, splits.train, spec)
    started = time.monotonic()
    checkpoints = checkpoints_folder(config.output_dir)
    best = best_adapter(tokenizer, splits, spec)
    losses = engine(spec)(adapted, rows, pad_id_of(tokenizer), spec, checkpoints, say, best, tracking)
    leave_group()
    say(
        f"trained on {len(rows)} rows in {time.monotonic() - started:.0f} s, mean loss {sum(losses) / len(losses):.4f}"
    )
    if work is not None:
        models.save_adapter(adapted, work / ADAPTER_FOLDER)
    return Trained(spec, losses, trainable, best)


def best_adapter(tokenizer: Any, splits: Splits, spec: TrainingSpec) -> BestAdapter:
    """Validates on a sample of the validation split, by the log loss of p(toxic)."""
    rows = sample(splits.validation, spec.early_stopping.max_rows, spec.seed)

    def loss(model: Any) -> float:
        return validation_loss(model, tokenizer, rows, spec)

    return BestAdapter(spec, len(splits.train), processes(os.environ), loss, say)


def merge(config: TrainingConfig, work: Path) -> None:
    """Merges the adapter in `work` into the base model and saves the result to `work`."""
    from toxicity_training import model as models

    models.release_memory()  # of the model that was trained: there may be no room for two
    merged, tokenizer = models.merge(config.base_model_path, work / ADAPTER_FOLDER, config.training)
    models.save_merged(merged, tokenizer, work / MODEL_FOLDER)
    write_normal_form(work / MODEL_FOLDER, config.training.prompt_format.normal_form)


def _evaluate(prepared: Prepared, trained: Trained, work: Path) -> Evaluation:
    """Evaluates the model as it was saved to `work`, and writes the figures and the files for people there."""
    from toxicity_training import model as models

    models.release_memory()
    spec = trained.spec
    model, tokenizer = models.load_model(work / MODEL_FOLDER, models.in_full(spec))
    with autocast(spec):
        evaluation = measure(model, tokenizer, prepared.splits.validation, prepared.splits.test, spec, say)
    write_splits(prepared.splits, work / "splits")
    write_evaluation(evaluation, work / "evaluation")
    texts = [example.text for example in prepared.rows]
    write_eda(prepared.rows, prompt_lengths(tokenizer, spec.prompt_format, texts), work / "eda")
    _write_losses(enumerate(trained.losses, start=1), work / "losses.csv")
    _write_losses(trained.best.losses.items(), work / "validation.csv")
    return evaluation


def _write_losses(losses: Iterable[tuple[int, float]], path: Path) -> None:
    path.write_text("step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in losses))


def engine(spec: TrainingSpec) -> Engine:
    """The `train` function of the spec's engine."""
    from toxicity_training.engines import loop, trainer

    return {"trainer": trainer.train, "loop": loop.train}[spec.engine]


def resolve_length(spec: TrainingSpec, tokenizer: Any, examples: list[Example]) -> TrainingSpec:
    """`spec` with maxInputLength in tokens: `auto` becomes the 98th percentile of the examples' prompts."""
    if spec.max_input_length != "auto":
        return spec
    length = auto_length(prompt_lengths(tokenizer, spec.prompt_format, [e.text for e in examples]))
    say(f"maxInputLength auto: {length} tokens, the 98th percentile of {len(examples)} training prompts")
    return spec.model_copy(update={"max_input_length": length})
