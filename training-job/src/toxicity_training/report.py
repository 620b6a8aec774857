"""Writes the exploration of the data set and the evaluation of a model as JSON and plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.results import Metrics
from toxicity_training import plots
from toxicity_training.dataset import Example
from toxicity_training.eda import Eda, explore
from toxicity_training.evaluation.errors import ErrorRow, find_errors, write_errors
from toxicity_training.evaluation.measure import Evaluation
from toxicity_training.evaluation.metrics import Bin, BucketFigures, FamilyFigures

EVALUATION_FILE, ERRORS_FILE, EDA_FILE = "evaluation.json", "errors.csv", "eda.json"
SHOWN_ERRORS, SHOWN_LENGTH = 30, 300
"""number of errors in the evaluation's document, which the service's page shows, and characters of their texts"""


class EvaluationReport(Document):
    """evaluation.json: the metrics of a model on the test split."""

    metrics: Metrics = Field(description="metrics at the model's threshold.")
    buckets: list[BucketFigures] = Field(description="buckets: metrics by the text's length in characters.")
    misspellings: list[FamilyFigures] = Field(
        default_factory=list, description="misspellings: F1 by family of misspellings."
    )
    reliability: list[Bin] = Field(description="reliability: ten bins of the score.")
    errors: list[ErrorRow] = Field(
        default_factory=list, description="errors: the most confident errors; errors.csv has all of them."
    )


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """evaluation.json, errors.csv, pr_curve.png, reliability.png and f1_by_length.png into `folder`, which it creates.

    Raises OSError if it cannot be written.
    """
    metrics = evaluation.metrics
    errors = find_errors(evaluation.texts, evaluation.scores, evaluation.labels, metrics.threshold)
    shown = [row.model_copy(update={"text": row.text[:SHOWN_LENGTH]}) for row in errors[:SHOWN_ERRORS]]
    document = EvaluationReport(
        metrics=metrics,
        buckets=evaluation.buckets,
        misspellings=evaluation.families,
        reliability=evaluation.reliability,
        errors=shown,
    )
    _write_json(document, folder / EVALUATION_FILE)
    write_errors(errors, folder / ERRORS_FILE)
    plots.save(plots.pr_curve(evaluation.scores, evaluation.labels, metrics), folder / "pr_curve.png")
    plots.save(plots.reliability_diagram(evaluation.reliability, metrics), folder / "reliability.png")
    plots.save(plots.f1_by_length(evaluation.buckets, metrics), folder / "f1_by_length.png")


def write_eda(examples: Sequence[Example], token_lengths: Sequence[int], folder: Path) -> Eda:
    """eda.json, labels.png, len_text_chars.png, len_text_tokens.png and labels_len.png into `folder`, which it creates.

    `token_lengths` are the lengths of the examples in tokens. Raises ValueError as `explore` does, and OSError if the
    folder cannot be written.
    """
    eda = explore(examples, token_lengths)
    characters = [len(example.text) for example in examples]
    labels = [example.toxic for example in examples]
    _write_json(eda, folder / EDA_FILE)
    plots.save(plots.label_balance(eda), folder / "labels.png")
    plots.save(plots.length_histogram(characters, eda.characters.all, "characters"), folder / "len_text_chars.png")
    plots.save(plots.length_histogram(token_lengths, eda.tokens.all, "tokens"), folder / "len_text_tokens.png")
    plots.save(plots.length_by_label(characters, labels, eda.characters), folder / "labels_len.png")
    return eda


def _write_json(document: Document, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document.to_wire(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
