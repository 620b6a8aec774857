"""Figures of cross-validated models from the scores of their folds, and paired intervals of differences; pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pydantic import Field

from toxicity_api.base import Document
from toxicity_training.evaluation.intervals import drop_intervals
from toxicity_training.evaluation.metrics import choose_threshold, count_confusion, evaluate_scores

SPELLINGS = ("plain", "distorted", "misspelled")


class ModelScores(Document):
    """The scores of one model of one fold, in the order of its test rows and of the rows of the other domain."""

    threshold: float = Field(description="threshold with the best F1 on the fold's validation rows.")
    plain: list[float] = Field(description="plain: scores of the test rows as they are.")
    distorted: list[float] = Field(description="distorted: scores of the test rows with known evasions.")
    misspelled: list[float] = Field(description="misspelled: scores of the test rows with unseen misspellings.")
    other: list[float] = Field(default_factory=list, description="other: scores of the rows of the other domain.")


class FoldScores(Document):
    """What a fold leaves: the scores of the model and of the baseline."""

    test_rows: list[int] = Field(description="testRows: indices in the data set.")
    model: ModelScores
    baseline: ModelScores
    seconds: float = Field(description="seconds of training and scoring the model.")


class Pooled(Document):
    """The scores and decisions of a model's folds on all rows, in the order of the data set."""

    name: str = Field(description="name in the table.")
    dataset: str = Field("", description="dataset: sha256 of its file.")
    scores: list[float]
    decisions: dict[str, list[bool]] = Field(description="decisions by spelling.")
    thresholds: list[float] = Field(description="thresholds of the folds.")
    other: list[list[float]] = Field(
        default_factory=list, description="other: scores of the other domain by fold."
    )


class Figures(Document):
    """The figures of a model, pooled over all rows; those of the other domain are means over the folds."""

    name: str
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    f1: float
    roc_auc: float
    distorted_f1: float
    misspelled_f1: float
    other_roc_auc: float | None = None
    other_f1: float | None = Field(None, description="otherF1 at the stored threshold.")
    other_best_f1: float | None = Field(None, description="otherBestF1 at the best threshold of these rows.")


class Gain(Document):
    """How much higher the figures of a model are than those of another one, on the same rows (95 % intervals)."""

    over: str
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    f1: float
    f1_low: float
    f1_high: float


def pool(name: str, folds: Sequence[FoldScores], models: Sequence[ModelScores], dataset: str) -> Pooled:
    """The scores of `models`, one for each of the folds, in the order of the data set."""
    order = [(row, fold, place) for fold, each in enumerate(folds) for place, row in enumerate(each.test_rows)]
    order.sort()
    return Pooled(
        name=name,
        dataset=dataset,
        scores=[models[fold].plain[place] for _, fold, place in order],
        decisions={
            spelling: [
                getattr(models[fold], spelling)[place] >= models[fold].threshold for _, fold, place in order
            ]
            for spelling in SPELLINGS
        },
        thresholds=[model.threshold for model in models],
        other=[model.other for model in models if model.other],
    )


def figures_of(pooled: Pooled, labels: Sequence[bool], other: Sequence[bool], seed: int) -> Figures:
    """The figures of all rows, whose labels are `labels`, and of the other domain with labels `other`."""
    plain, distorted, misspelled = (pooled.decisions[spelling] for spelling in SPELLINGS)
    # a decision is its own score, since each fold has a threshold of its own
    whole = evaluate_scores([float(said) for said in plain], labels, 0.5, seed=seed)
    found = Figures(
        name=pooled.name,
        macro_f1=whole.macro_f1,
        macro_f1_low=whole.macro_f1_low or 0.0,
        macro_f1_high=whole.macro_f1_high or 0.0,
        f1=whole.f1,
        roc_auc=evaluate_scores(pooled.scores, labels, 0.5).roc_auc,
        distorted_f1=count_confusion(map(float, distorted), labels, 0.5).f1,
        misspelled_f1=count_confusion(map(float, misspelled), labels, 0.5).f1,
    )
    if not pooled.other:
        return found
    by_fold = list(zip(pooled.other, pooled.thresholds, strict=True))
    return found.model_copy(
        update={
            "other_roc_auc": fmean(evaluate_scores(scores, other, 0.5).roc_auc for scores, _ in by_fold),
            "other_f1": fmean(count_confusion(scores, other, stored).f1 for scores, stored in by_fold),
            "other_best_f1": fmean(
                count_confusion(scores, other, choose_threshold(scores, other)).f1 for scores, _ in by_fold
            ),
        }
    )


def gain(pooled: Pooled, over: Pooled, labels: Sequence[bool], seed: int) -> Gain:
    """The difference to another model on the same rows, with paired bootstrap intervals."""
    mine, other = pooled.decisions["plain"], over.decisions["plain"]
    intervals = drop_intervals(mine, other, labels, seed)
    after, before = (count_confusion(map(float, said), labels, 0.5) for said in (mine, other))
    return Gain(
        over=over.name,
        macro_f1=after.macro_f1 - before.macro_f1,
        macro_f1_low=intervals.macro_f1[0],
        macro_f1_high=intervals.macro_f1[1],
        f1=after.f1 - before.f1,
        f1_low=intervals.f1[0],
        f1_high=intervals.f1[1],
    )
