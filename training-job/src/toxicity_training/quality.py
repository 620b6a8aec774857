"""Compares a trained model with baselines on its test rows: `python -m toxicity_training.quality --stage DIR`.

One baseline is fitted on the training rows of the stage. If the stage sampled its data set (maxSamples), a second one
is fitted on all training rows.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from toxicity_api.base import Document, read_document
from toxicity_api.results import EXIT_INVALID_INPUT, Metrics, TrainingResult
from toxicity_api.spec import Split
from toxicity_stage.artifacts import input_result
from toxicity_stage.errors import InputError, ModelError
from toxicity_training.dataset import Example, normalise
from toxicity_training.evaluation.baseline import BaselineResult, measure_baseline
from toxicity_training.evaluation.tables import figure, markdown_table, write_report
from toxicity_training.experiments.table import ExperimentsReport
from toxicity_training.sources.files import read_dataset
from toxicity_training.splits import SPLIT_NAMES, Splits, read_split, split_examples

WIDTH = 100
HEADER = ("model", "rows", "toxic F1", "macro F1", "ROC-AUC", "PR-AUC", "seconds")
PR_AUC = HEADER.index("PR-AUC")
LEGEND = (
    "rows: training rows; the metrics are on the same {tests} test rows, each model at the threshold with the best"
    " F1 on the same validation rows; seconds: the whole stage, or fitting and scoring the baseline."
)


class QualityRow(Document):
    name: str = Field(description="name of the model in the table.")
    train_samples: int = Field(description="trainSamples it was fitted on.")
    metrics: Metrics = Field(description="metrics on the stage's test rows.")
    duration_seconds: float = Field(description="durationSeconds of the stage or of the baseline.")
    c: float | None = Field(None, description="c of the baseline's logistic regression. Unset for the model.")


class QualityReport(Document):
    stage: str = Field(description="stage folder's name.")
    rows: list[QualityRow]


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or EXIT_INVALID_INPUT with a message if the stage or the data set cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        stage = options.stage or best_stage(options.experiments)
        report = compare(stage, _full(options))
    except InputError as error:
        print(f"quality: {error}", file=sys.stderr)
        return EXIT_INVALID_INPUT
    table = render_quality(report)
    write_report(report, table, options.output or stage.resolve().with_name(f"{report.stage}.quality.md"))
    print(table, end="", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toxicity_training.quality",
        description="Compares a trained model with TF-IDF and logistic regression.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--stage", type=Path, help="folder of a training stage that succeeded")
    which.add_argument(
        "--experiments",
        type=Path,
        help="JSON report in the work folder of toxicity_training.experiments; its best run is compared",
    )
    parser.add_argument(
        "--dataset", type=Path, help="the whole data set, if the stage used a part of it (maxSamples)"
    )
    parser.add_argument("--text-column", default="comment")
    parser.add_argument("--label-column", default="toxic")
    parser.add_argument("--validation", default=0.1, help="dataset.split.validation of the whole data set")
    parser.add_argument("--test", default=0.1, help="dataset.split.test of the whole data set")
    parser.add_argument("--seed", default=42, help="dataset.split.seed of the whole data set")
    parser.add_argument(
        "--output",
        type=Path,
        help="file for the table (FILE.md); FILE.json is written beside it; default: beside the stage",
    )
    return parser


def best_stage(experiments: Path) -> Path:
    """The stage folder of the run with the best toxic F1. Raises ModelError if there is no run or no such file."""
    try:
        report = read_document(ExperimentsReport, experiments.read_bytes(), experiments.name)
    except (OSError, ValidationError) as error:
        raise ModelError("NoExperiments", f"{experiments} is not a report of experiments: {error}") from error
    done = [(run.figures.metrics.f1, run.fingerprint) for run in report.runs if run.figures]
    if not done:
        raise ModelError("NoExperiments", f"{experiments}: no run has succeeded; run the experiments again")
    return experiments.parent / f"train-{max(done)[1]}"


def _full(options: argparse.Namespace) -> list[Example] | None:
    """The training rows of the whole data set; None without --dataset."""
    if options.dataset is None:
        return None
    try:
        split = Split(validation=options.validation, test=options.test, seed=options.seed)
    except ValidationError as error:
        raise InputError("InvalidSplit", str(error)) from error
    return split_examples(read_dataset(options.dataset, options.text_column, options.label_column), split).train


def compare(stage: Path, full: Sequence[Example] | None) -> QualityReport:
    """The model of a stage folder and its baselines; `full` are the training rows of the whole data set.

    Raises ModelError if the stage has not succeeded, DatasetError if its splits are damaged.
    """
    training = _training_of(stage)
    rows, form = [_model_row(training)], training.normal_form or 0
    train, validation, test = (read_split(stage / "splits", name) for name in SPLIT_NAMES)
    splits = Splits(train, validation, test)
    own = measure_baseline(train, validation, test, normal_form=form)
    rows.append(_baseline_row("TF-IDF + LR, same rows", own))
    more = None if full is None else without_evaluation(full, splits)
    if more is not None and _content(more) != _content(train):
        whole = measure_baseline(more, validation, test, normal_form=form)
        rows.append(_baseline_row("TF-IDF + LR, all rows", whole))
    return QualityReport(stage=stage.resolve().name, rows=rows)


def without_evaluation(rows: Sequence[Example], splits: Splits) -> list[Example]:
    """`rows` without those whose normalised text occurs in the validation or test split."""
    seen = {normalise(example.text) for example in [*splits.validation, *splits.test]}
    return [example for example in rows if normalise(example.text) not in seen]


def _content(rows: Sequence[Example]) -> list[tuple[str, bool]]:
    return sorted((example.text, example.toxic) for example in rows)


def _training_of(stage: Path) -> TrainingResult:
    training = input_result(stage).training
    if training is None:
        raise ModelError(
            "NotATraining", f"{stage} is not a training stage; pass a folder called train-<fingerprint>"
        )
    return training


def _model_row(training: TrainingResult) -> QualityRow:
    return QualityRow(
        name="this model",
        train_samples=training.train_samples,
        metrics=training.metrics,
        duration_seconds=training.duration_seconds,
    )


def _baseline_row(name: str, result: BaselineResult) -> QualityRow:
    return QualityRow(
        name=name,
        train_samples=result.train_samples,
        metrics=result.metrics,
        duration_seconds=result.duration_seconds,
        c=result.c,
    )


def render_quality(report: QualityReport) -> str:
    """Markdown of at most WIDTH columns in the report's order; PR-AUC only if a row has it. Pure."""
    rows = [_cells(row) for row in report.rows]
    shown = [i for i in range(len(HEADER)) if i != PR_AUC or any(row.metrics.pr_auc for row in report.rows)]
    table = markdown_table([HEADER[i] for i in shown], [[row[i] for i in shown] for row in rows])
    legend = textwrap.fill(LEGEND.format(tests=report.rows[0].metrics.test_samples), WIDTH)
    return f"# Quality of {report.stage}\n\n{table}\n\n{legend}\n"


def _cells(row: QualityRow) -> list[str]:
    metrics = row.metrics
    shares = map(figure, (metrics.f1, metrics.macro_f1, metrics.roc_auc, metrics.pr_auc))
    return [row.name, str(row.train_samples), *shares, f"{row.duration_seconds:.1f}"]


if __name__ == "__main__":
    sys.exit(main())
