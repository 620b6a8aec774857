"""Figures of a classifier from scores and labels; pure, used after training and after quantization."""

from __future__ import annotations

from collections.abc import Sequence

from toxicity_api.results import Metrics
from toxicity_training.errors import DatasetError


def _require_both_labels(labels: Sequence[bool], field: str) -> None:
    if len(set(labels)) < 2:
        raise DatasetError(
            "OneClassSplit",
            f"{field}: the {len(labels)} rows to evaluate carry one label only; both are needed, raise {field}",
        )


def choose_threshold(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """The threshold in [0, 1] with the highest F1 of the toxic class (score >= threshold means toxic).

    It lies halfway between two neighbouring scores; of equal ones the one nearest to 0.5 wins.
    Raises DatasetError unless both labels occur.
    """
    _require_both_labels(labels, "dataset.split.validation")
    ranked = sorted(zip(scores, labels, strict=True), reverse=True)
    positives = sum(labels)
    candidates: list[tuple[float, float, float]] = []
    hits = 0
    for rank, (score, toxic) in enumerate(ranked, start=1):
        hits += toxic
        following = ranked[rank][0] if rank < len(ranked) else 0.0
        if following == score:
            continue
        threshold = (score + following) / 2
        candidates.append((2 * hits / (rank + positives), -abs(threshold - 0.5), threshold))
    return max(candidates)[2] if candidates else 0.5


def evaluate_scores(scores: Sequence[float], labels: Sequence[bool], threshold: float) -> Metrics:
    """Metrics of `scores` at `threshold`. Raises DatasetError unless both labels occur."""
    from sklearn.metrics import f1_score, precision_recall_fscore_support, roc_auc_score

    _require_both_labels(labels, "dataset.split.test")
    predicted = [score >= threshold for score in scores]
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, average="binary", pos_label=True, zero_division=0.0
    )
    return Metrics(
        f1=float(f1),
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        precision=float(precision),
        recall=float(recall),
        roc_auc=float(roc_auc_score(labels, scores)),
        threshold=threshold,
        test_samples=len(labels),
    )
