"""The further test sets of the evaluation: their rows without those of the training, their figures and their scores."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toxicity_api.results import HeldOutFigures
from toxicity_api.stage_config import HeldOutConfig
from toxicity_stage.errors import DatasetError, about
from toxicity_training.dataset import Example, normalise
from toxicity_training.evaluation.metrics import evaluate_scores
from toxicity_training.sources.files import read_dataset

FOLDER = "test-sets"
"""Folder in the evaluation's folder with a CSV file per test set."""

DIGITS = 4
"""Decimals of the figures, which must fit into a termination message."""


@dataclass(frozen=True)
class HeldOut:
    """The rows of a test set that are scored, and the number of rows that were left out."""

    name: str
    rows: list[Example]
    left_out: int


def read_held_out(configs: Iterable[HeldOutConfig], known: Iterable[Example]) -> list[HeldOut]:
    """The rows of each test set whose text, after normalisation, is not among `known`: those are left out.

    Raises DatasetError naming the test set if it cannot be read or if both labels are not left.
    """
    seen = {normalise(example.text) for example in known}
    return [_without(config, seen) for config in configs]


def _without(config: HeldOutConfig, seen: set[str]) -> HeldOut:
    field = f"evaluation.testSets[{config.name}]"
    try:
        rows = read_dataset(config.path, config.text_column, config.label_column)
    except DatasetError as error:
        raise DatasetError(error.reason, about(str(error), field)) from error
    kept = [example for example in rows if normalise(example.text) not in seen]
    toxic = sum(example.toxic for example in kept)
    if not 0 < toxic < len(kept):
        raise DatasetError(
            "OneClassSplit",
            f"{field}: of {len(rows)} rows, {len(rows) - len(kept)} have a text of the training or validation rows and"
            f" were left out; the others are {toxic} toxic and {len(kept) - toxic} not, both are needed: add labelled"
            " comments to the file, or remove the test set",
        )
    return HeldOut(config.name, kept, len(rows) - len(kept))


def figures_of(
    held_out: HeldOut,
    scores: Sequence[float],
    threshold: float,
    original: tuple[Sequence[float], float] | None,
    seed: int,
) -> HeldOutFigures:
    """The figures of the weights to be served at their threshold.

    `original` has the scores and the threshold of the weights before quantization.
    """
    labels = [example.toxic for example in held_out.rows]
    metrics = evaluate_scores(scores, labels, threshold, seed=seed)
    before = None if original is None else evaluate_scores(original[0], labels, original[1], seed=seed).f1

    def rounded(value: float | None) -> float:
        return round(value or 0.0, DIGITS)

    return HeldOutFigures(
        name=held_out.name,
        rows=len(labels),
        left_out=held_out.left_out,
        f1=rounded(metrics.f1),
        f1_low=rounded(metrics.f1_low),
        f1_high=rounded(metrics.f1_high),
        macro_f1=rounded(metrics.macro_f1),
        macro_f1_low=rounded(metrics.macro_f1_low),
        macro_f1_high=rounded(metrics.macro_f1_high),
        roc_auc=rounded(metrics.roc_auc),
        original_f1=None if before is None else rounded(before),
    )


def describe(figures: HeldOutFigures) -> str:
    """The figures as a log line."""
    return (
        f"test set {figures.name}: F1 {figures.f1:.3f} (95 %: {figures.f1_low:.3f} to {figures.f1_high:.3f}), ROC-AUC"
        f" {figures.roc_auc:.3f}, {figures.rows} rows, {figures.left_out} left out"
    )


def write_scores(
    held_out: HeldOut, scores: Sequence[float], original: Sequence[float] | None, folder: Path
) -> None:
    """Writes a CSV file with a line per scored row, in order: toxic, score, original_score, text."""
    before: Sequence[float | str] = original or [""] * len(scores)
    folder.mkdir(exist_ok=True)
    with (folder / f"{held_out.name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["toxic", "score", "original_score", "text"])
        for example, score, earlier in zip(held_out.rows, scores, before, strict=True):
            writer.writerow([int(example.toxic), score, earlier, example.text])
