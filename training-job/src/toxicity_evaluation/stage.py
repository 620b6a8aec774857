"""The evaluation stage: scores the same rows with the original and the served weights, compares, publishes."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from toxicity_api.results import DropFigures, EvaluationResult, Metrics, StageResult
from toxicity_api.spec import ThresholdSpec
from toxicity_api.stage_config import COMPILED_FILE, EngineConfig, EvaluationConfig
from toxicity_evaluation import held_out as sets
from toxicity_evaluation.answers import Answers, Say
from toxicity_evaluation.held_out import HeldOut
from toxicity_stage.artifacts import open_work_folder, publish
from toxicity_stage.errors import ModelError
from toxicity_training.dataset import Example
from toxicity_training.evaluation.intervals import drop_intervals
from toxicity_training.evaluation.metrics import by_length, choose_threshold, decide, evaluate_scores
from toxicity_training.evaluation.tables import describe_metrics, length_table
from toxicity_training.splits import read_split

SCORES_FILE = "scores.csv"


@dataclass(frozen=True)
class Rows:
    """What is scored: the validation and test splits and the further test sets."""

    validation: list[Example]
    test: list[Example]
    held_out: list[HeldOut]


@dataclass(frozen=True)
class Scored:
    """The answers for the splits, and the scores of each further test set, in the order of their rows."""

    answers: Answers
    held_out: list[list[float]]


AskRows = Callable[[EngineConfig, Sequence[str], Sequence[str], Say, Path | None], Answers]
"""`answers.ask_apart`: (configuration, validation texts, test texts, log, file for compiled code) to answers."""


def say(message: str) -> None:
    """Prints one line of the stage's log, unbuffered."""
    print(f"evaluation: {message}", flush=True)


def run(config: EvaluationConfig, ask: AskRows) -> StageResult:
    """Evaluates and publishes the stage's folder. Raises InputError for input that a retry does not cure."""
    started = time.monotonic()
    rows = read_rows(config)
    work = open_work_folder(config.output_dir)
    original = None if config.original is None else _ask(config.original, ask, rows, None)
    served = _ask(config.served, ask, rows, work / COMPILED_FILE)
    if original is not None:
        require_same_labels(original.answers, served.answers)
    result = evaluate(original, served, rows, config.seed, config.threshold)
    result = result.model_copy(update={"duration_seconds": round(time.monotonic() - started, 1)})
    for line in describe(result):
        say(line)
    labels, lengths = [e.toxic for e in rows.test], [len(e.text) for e in rows.test]
    for line in length_table(by_length(served.answers.test, labels, lengths, result.metrics.threshold)):
        say(line)
    write_scores(original.answers if original else None, served.answers, labels, work / SCORES_FILE)
    for index, each in enumerate(rows.held_out):
        before = original.held_out[index] if original else None
        sets.write_scores(each, served.held_out[index], before, work / sets.FOLDER)
    outcome = StageResult(stage="evaluate", fingerprint=config.fingerprint, outcome="succeeded", evaluation=result)
    return publish(work, config.output_dir, outcome)


def read_rows(config: EvaluationConfig) -> Rows:
    """Reads the splits and the test sets. Raises DatasetError."""
    validation, test = (read_split(config.splits_dir, name) for name in ("validation", "test"))
    if not config.test_sets:
        return Rows(validation, test, [])
    trained = [*read_split(config.splits_dir, "train"), *validation]
    return Rows(validation, test, sets.read_held_out(config.test_sets, trained))


def _ask(config: EngineConfig, ask: AskRows, rows: Rows, compiled: Path | None) -> Scored:
    """Scores all rows. The engine's speed is measured on the test split alone."""
    parts = [rows.validation, *(each.rows for each in rows.held_out)]
    untimed = [example.text for part in parts for example in part]
    say(f"loading {config.model_dir} into the serving engine to score {len(untimed) + len(rows.test)} rows")
    answers = ask(config, untimed, [example.text for example in rows.test], say, compiled)
    scores = iter(answers.validation)
    validation, *held_out = (list(islice(scores, len(part))) for part in parts)
    return Scored(replace(answers, validation=validation), held_out)


def evaluate(
    original: Scored | None, served: Scored, rows: Rows, seed: int, goal: ThresholdSpec
) -> EvaluationResult:
    """The metrics of both models, each at its best threshold on validation for `goal`; the caller sets the duration.

    Raises DatasetError unless both splits have both labels and the goal's bounds can be reached.
    """
    labels = [example.toxic for example in rows.test]

    def metrics_of(answers: Answers) -> Metrics:
        threshold = choose_threshold(answers.validation, [example.toxic for example in rows.validation], goal)
        return evaluate_scores(answers.test, labels, threshold, seed=seed)

    metrics = metrics_of(served.answers)
    before = None if original is None else metrics_of(original.answers)
    drop = None
    if original is not None and before is not None:
        said = decide(original.answers.test, before.threshold), decide(served.answers.test, metrics.threshold)
        drop = compare(before, metrics, *said, labels, seed)
    return EvaluationResult(
        engine=served.answers.engine,
        metrics=metrics,
        figures=served.answers.figures,
        original_metrics=before,
        original_figures=None if original is None else original.answers.figures,
        drop=drop,
        test_sets=[
            sets.figures_of(
                each,
                served.held_out[index],
                metrics.threshold,
                (original.held_out[index], before.threshold) if original and before else None,
                seed,
            )
            for index, each in enumerate(rows.held_out)
        ],
        compiled_sha256=served.answers.compiled_sha256,
        duration_seconds=0.0,
    )


def compare(
    before: Metrics,
    after: Metrics,
    said_before: Sequence[bool],
    said: Sequence[bool],
    labels: Sequence[bool],
    seed: int,
) -> DropFigures:
    """The drop of F1 by quantization, from decisions before (`said_before`) and after (`said`); True means toxic."""
    intervals = drop_intervals(said_before, said, labels, seed)
    equal = sum(one == other for one, other in zip(said_before, said, strict=True))
    return DropFigures(
        f1_drop=before.f1 - after.f1,
        f1_drop_low=intervals.f1[0],
        f1_drop_high=intervals.f1[1],
        macro_f1_drop=before.macro_f1 - after.macro_f1,
        macro_f1_drop_low=intervals.macro_f1[0],
        macro_f1_drop_high=intervals.macro_f1[1],
        agreement=equal / len(labels),
    )


def require_same_labels(original: Answers, served: Answers) -> None:
    """Raises ModelError if the quantized folder's tokenizer encodes the labels differently from the trained one."""
    if original.labels != served.labels:
        raise ModelError(
            "LabelTokensChanged",
            f"the label tokens are {served.labels.toxic} and {served.labels.non_toxic} after quantization and were"
            f" {original.labels.toxic} and {original.labels.non_toxic} before; its folder has another tokenizer:"
            " quantize again",
        )


def describe(result: EvaluationResult) -> list[str]:
    """The result as log lines that fit a terminal."""
    lines = describe_metrics(result.metrics) + list(map(sets.describe, result.test_sets))
    if result.original_metrics and result.drop and result.original_figures:
        drop, speed = result.drop, result.figures.texts_per_second / result.original_figures.texts_per_second
        lines += [
            f"before quantization F1 {result.original_metrics.f1:.3f}; it cost {drop.f1_drop:+.3f}"
            f" (95 %: {drop.f1_drop_low:+.3f} to {drop.f1_drop_high:+.3f})",
            f"same decision on {drop.agreement:.1%} of the rows, {speed:.2f} times the texts per second",
        ]
    return lines


def write_scores(original: Answers | None, served: Answers, labels: Sequence[bool], path: Path) -> None:
    """Writes a CSV file with a line per test row, in order: toxic, served score, original score."""
    before: Sequence[float | str] = original.test if original else [""] * len(labels)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["toxic", "score", "original_score"])
        writer.writerows(zip(map(int, labels), served.test, before, strict=True))
