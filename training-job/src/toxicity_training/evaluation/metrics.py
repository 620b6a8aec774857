"""Metrics of a classifier from its scores and labels; pure. All three model stages use them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.buckets import length_buckets
from toxicity_api.results import Metrics
from toxicity_api.spec import ThresholdSpec
from toxicity_stage.errors import DatasetError
from toxicity_training.evaluation.intervals import f1_intervals

BINS = 10
"""equal-width bins of the score, for the reliability diagram and the calibration error"""
BUCKET_STEP, LONGEST_BUCKET = 100, 1000
"""width of a length bucket, and upper bound of the last closed bucket, in characters"""


@dataclass(frozen=True)
class Confusion:
    """Rows by label and decision. A ratio whose denominator is zero is 0.0, as with scikit-learn's `zero_division=0`.

    Formulas: van Rijsbergen, Information Retrieval, 2nd ed. 1979, chapter 7.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float:
        """TP / (TP + FP) of the toxic class."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN) of the toxic class."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN) of the toxic class."""
        return _f1(self.true_positives, self.false_positives + self.false_negatives)

    @property
    def macro_f1(self) -> float:
        """Mean of the F1 of the toxic and of the harmless class."""
        return (self.f1 + _f1(self.true_negatives, self.false_positives + self.false_negatives)) / 2


class BucketFigures(Document):
    """Metrics on the rows whose text has `low` to `high` characters."""

    name: str = Field(description="name of the bucket, its characters: low-high, or >low for the last.")
    low: int = Field(description="low: shortest text in characters.")
    high: int | None = Field(None, description="high: longest text in characters. Unset means no bound.")
    rows: int = Field(description="rows in the bucket.")
    toxic: int = Field(description="toxic rows among them.")
    f1: float | None = Field(
        None, description="f1 of the toxic class. Unset if no row is toxic and none is classified as toxic."
    )
    precision: float | None = Field(None, description="precision of the toxic class, unset as f1 is.")
    recall: float | None = Field(None, description="recall of the toxic class, unset as f1 is.")


class FamilyFigures(Document):
    """F1 of the toxic class on the test rows that one family misspelled."""

    name: str = Field(description="name of the family.")
    rows: int = Field(description="rows that it misspelled.")
    toxic: int = Field(description="toxic rows among them.")
    f1: float | None = Field(
        None, description="f1 of the misspelled rows. Unset if no row is toxic and none is classified as toxic."
    )
    f1_before: float | None = Field(None, description="f1Before: F1 of the same rows as they are, unset as f1 is.")


class Bin(Document):
    """Rows with a score in [low, high); the last bin includes 1."""

    low: float = Field(description="low end of the score.")
    high: float = Field(description="high end of the score.")
    rows: int = Field(description="rows in the bin.")
    mean_score: float | None = Field(None, description="meanScore of these rows. Unset in an empty bin.")
    toxic_share: float | None = Field(None, description="toxicShare of these rows, 0 to 1. Unset in an empty bin.")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _f1(hits: int, errors: int) -> float:
    return _ratio(2 * hits, 2 * hits + errors)


def _require_both_labels(labels: Sequence[bool], field: str) -> None:
    if len(set(labels)) < 2:
        raise DatasetError(
            "OneClassSplit",
            f"{field}: the {len(labels)} rows to evaluate have one label only; both are needed, raise {field}",
        )


def choose_threshold(scores: Sequence[float], labels: Sequence[bool], goal: ThresholdSpec | None = None) -> float:
    """The threshold in [0, 1] that reaches `goal`, by default the highest F1 of the toxic class.

    A score at or above the threshold means toxic. It lies halfway between two neighbouring scores, or between the
    lowest score and 0; among equally good thresholds, the one nearest to 0.5 is chosen. Raises DatasetError unless both
    labels occur and the bounds of the goal can be reached.
    """
    _require_both_labels(labels, "dataset.split.validation")
    goal = goal or ThresholdSpec()
    cuts = list(_cuts(scores, labels))
    reached = [
        (counts.macro_f1 if goal.maximize == "macroF1" else counts.f1, -abs(threshold - 0.5), threshold)
        for threshold, counts in cuts
        if counts.precision >= (goal.min_precision or 0) and counts.recall >= (goal.min_recall or 0)
    ]
    if not reached:
        raise _unreachable([counts for _, counts in cuts], goal)
    return max(reached)[2]


def _cuts(scores: Sequence[float], labels: Sequence[bool]) -> Iterator[tuple[float, Confusion]]:
    """(threshold, decisions) between each two neighbouring scores, and at or below the lowest."""
    ranked = sorted(zip(scores, labels, strict=True), reverse=True)
    positives = sum(labels)
    hits = 0
    for rank, (score, toxic) in enumerate(ranked, start=1):
        hits += toxic
        following = ranked[rank][0] if rank < len(ranked) else 0.0
        if following != score or rank == len(ranked):
            alarms, misses = rank - hits, positives - hits
            middle = (score + following) / 2
            yield (
                middle
                if middle > following
                else score,  # the middle of two adjacent numbers is rounded to one of them
                Confusion(hits, alarms, misses, len(ranked) - hits - alarms - misses),
            )


def _unreachable(cuts: Sequence[Confusion], goal: ThresholdSpec) -> DatasetError:
    """The error for bounds that no threshold reaches. Any recall can be reached alone, at a low threshold."""
    precision = max(counts.precision for counts in cuts if counts.recall >= (goal.min_recall or 0))
    field = "evaluation.threshold.minPrecision"
    given = "" if goal.min_recall is None else f" with a recall of at least {goal.min_recall}"
    return DatasetError(
        "ThresholdUnreachable",
        f"{field}: the highest precision on the validation split{given} is {precision:.3f}, below {goal.min_precision};"
        f" lower {field}, or train a better model",
    )


def count_confusion(scores: Iterable[float], labels: Iterable[bool], threshold: float) -> Confusion:
    """Rows by label and decision, where score >= threshold means toxic."""
    pairs = [(said, bool(toxic)) for said, toxic in zip(decide(scores, threshold), labels, strict=True)]
    return Confusion(
        true_positives=pairs.count((True, True)),
        false_positives=pairs.count((True, False)),
        false_negatives=pairs.count((False, True)),
        true_negatives=pairs.count((False, False)),
    )


def decide(scores: Iterable[float], threshold: float) -> list[bool]:
    """The decision for each score: True (toxic) at or above the threshold."""
    return [score >= threshold for score in scores]


def reliability(scores: Sequence[float], labels: Sequence[bool]) -> list[Bin]:
    """Ten equal-width bins of the score from 0 to 1: the points of a reliability diagram.

    Source: Niculescu-Mizil and Caruana, Predicting Good Probabilities with Supervised Learning, ICML 2005.
    """
    members: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for score, toxic in zip(scores, labels, strict=True):
        members[min(int(score * BINS), BINS - 1)].append((score, toxic))
    return [_bin(index, rows) for index, rows in enumerate(members)]


def _bin(index: int, members: Sequence[tuple[float, bool]]) -> Bin:
    rows = len(members)
    return Bin(
        low=index / BINS,
        high=(index + 1) / BINS,
        rows=rows,
        mean_score=sum(score for score, _ in members) / rows if rows else None,
        toxic_share=sum(toxic for _, toxic in members) / rows if rows else None,
    )


def calibration_error(bins: Iterable[Bin]) -> float:
    """Expected calibration error, 0 to 1: the bins' |toxic share - mean score|, weighted by their rows.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2; here of p(toxic), not of
    the confidence in the predicted class. 0.0 if there are no rows.
    """
    filled = [
        (b.rows, abs(b.toxic_share - b.mean_score))
        for b in bins
        if b.toxic_share is not None and b.mean_score is not None
    ]
    total = sum(rows for rows, _ in filled)
    return sum(rows * gap for rows, gap in filled) / total if total else 0.0


def by_length(
    scores: Sequence[float], labels: Sequence[bool], lengths_in_characters: Sequence[int], threshold: float
) -> list[BucketFigures]:
    """Metrics by text length in characters: 1-100, 101-200, ... 901-1000 and longer; empty buckets are included."""
    rows = list(zip(scores, labels, lengths_in_characters, strict=True))
    bounds: list[tuple[str, int, int | None]] = [
        (bucket.name, bucket.low, bucket.high) for bucket in length_buckets(BUCKET_STEP, LONGEST_BUCKET)
    ]
    bounds.append((f">{LONGEST_BUCKET}", LONGEST_BUCKET + 1, None))
    return [
        _bucket_figures(name, low, high, [(s, t) for s, t, n in rows if low <= n <= (high or n)], threshold)
        for name, low, high in bounds
    ]


def by_family(
    families: Sequence[str | None],
    before: Sequence[float],
    scores: Sequence[float],
    labels: Sequence[bool],
    threshold: float,
) -> list[FamilyFigures]:
    """F1 by family of misspellings, from the scores of each row before and after; a row without family is left out."""
    return [
        FamilyFigures(
            name=name,
            rows=len(chosen),
            toxic=sum(labels[row] for row in chosen),
            f1=_known_f1(scores, labels, chosen, threshold),
            f1_before=_known_f1(before, labels, chosen, threshold),
        )
        for name in sorted({name for name in families if name})
        for chosen in [[row for row, family in enumerate(families) if family == name]]
    ]


def _known_f1(
    scores: Sequence[float], labels: Sequence[bool], chosen: Sequence[int], threshold: float
) -> float | None:
    counts = count_confusion((scores[row] for row in chosen), (labels[row] for row in chosen), threshold)
    return counts.f1 if len(chosen) > counts.true_negatives else None


def _bucket_figures(
    name: str, low: int, high: int | None, members: Sequence[tuple[float, bool]], threshold: float
) -> BucketFigures:
    counts = count_confusion((score for score, _ in members), (toxic for _, toxic in members), threshold)
    known = len(members) > counts.true_negatives
    return BucketFigures(
        name=name,
        low=low,
        high=high,
        rows=len(members),
        toxic=counts.true_positives + counts.false_negatives,
        f1=counts.f1 if known else None,
        precision=counts.precision if known else None,
        recall=counts.recall if known else None,
    )


def evaluate_scores(
    scores: Sequence[float], labels: Sequence[bool], threshold: float, *, seed: int = 0
) -> Metrics:
    """Metrics of `scores` at `threshold`; `seed` is the bootstrap's. Raises DatasetError unless both labels occur.

    `pr_auc` is average precision, the sum of (R[n] - R[n-1]) P[n] over the thresholds, without interpolation.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    _require_both_labels(labels, "dataset.split.test")
    counts = count_confusion(scores, labels, threshold)
    intervals = f1_intervals(decide(scores, threshold), labels, seed)
    return Metrics(
        f1=counts.f1,
        macro_f1=counts.macro_f1,
        precision=counts.precision,
        recall=counts.recall,
        roc_auc=float(roc_auc_score(labels, scores)),
        threshold=threshold,
        test_samples=len(labels),
        f1_low=intervals.f1[0],
        f1_high=intervals.f1[1],
        macro_f1_low=intervals.macro_f1[0],
        macro_f1_high=intervals.macro_f1[1],
        pr_auc=float(average_precision_score(labels, scores)),
        calibration_error=calibration_error(reliability(scores, labels)),
        true_positives=counts.true_positives,
        false_positives=counts.false_positives,
        false_negatives=counts.false_negatives,
        true_negatives=counts.true_negatives,
    )
