"""Metrics against numbers worked out by hand, and the choice of the threshold."""

from __future__ import annotations

from random import Random

import pytest

from toxicity_training.errors import DatasetError
from toxicity_training.evaluate import choose_threshold, evaluate_scores

# at 0.5: predicted toxic are 0.9, 0.8, 0.6; of them 0.9 and 0.6 are (TP 2, FP 1); 0.4 is missed (FN 1), TN 2
SCORES = [0.9, 0.8, 0.6, 0.4, 0.3, 0.1]
LABELS = [True, False, True, True, False, False]


def test_evaluate_scores_equals_the_hand_computed_figures() -> None:
    metrics = evaluate_scores(SCORES, LABELS, 0.5)
    assert metrics.precision == pytest.approx(2 / 3)
    assert metrics.recall == pytest.approx(2 / 3)
    assert metrics.f1 == pytest.approx(2 / 3)
    # the harmless class: precision 2/3, recall 2/3
    assert metrics.macro_f1 == pytest.approx(2 / 3)
    # of 9 (toxic, harmless) pairs 7 are in order: 0.9 beats three, 0.6 and 0.4 two each
    assert metrics.roc_auc == pytest.approx(7 / 9)
    assert (metrics.threshold, metrics.test_samples) == (0.5, 6)


def test_evaluate_scores_tells_macro_from_toxic_f1() -> None:
    # TP 1, FP 0, FN 1, TN 2: toxic F1 2/3; harmless precision 2/3, recall 1, F1 4/5
    metrics = evaluate_scores([0.9, 0.2, 0.1, 0.3], [True, True, False, False], 0.5)
    assert metrics.f1 == pytest.approx(2 / 3)
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert metrics.precision == 1.0
    assert metrics.recall == 0.5


def test_evaluate_scores_counts_a_score_at_the_threshold_as_toxic() -> None:
    assert evaluate_scores([0.5, 0.4], [True, False], 0.5).recall == 1.0


def test_evaluate_scores_is_zero_not_a_crash_when_nothing_is_called_toxic() -> None:
    metrics = evaluate_scores([0.1, 0.2], [True, False], 0.9)
    assert (metrics.f1, metrics.precision, metrics.recall) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("label", [True, False])
def test_one_label_is_refused_with_the_field(label: bool) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.split\.test") as caught:
        evaluate_scores([0.1, 0.2], [label, label], 0.5)
    assert caught.value.reason == "OneClassSplit"
    with pytest.raises(DatasetError, match=r"dataset\.split\.validation"):
        choose_threshold([0.1, 0.2], [label, label])


def test_choose_threshold_separates_what_can_be_separated_halfway() -> None:
    assert choose_threshold([0.9, 0.7, 0.3, 0.1], [True, True, False, False]) == pytest.approx(0.5)
    assert choose_threshold([0.2, 0.1, 0.04], [True, False, False]) == pytest.approx(0.15)


def test_choose_threshold_is_no_worse_than_any_other() -> None:
    random = Random(5)
    for _ in range(3):
        labels = [True, False] + [random.random() < 0.3 for _ in range(40)]
        scores = [
            round(min(1.0, max(0.0, random.gauss(0.6 if toxic else 0.4, 0.2))) * 25) / 25 for toxic in labels
        ]
        best = evaluate_scores(scores, labels, choose_threshold(scores, labels)).f1
        assert best >= max(evaluate_scores(scores, labels, t / 50).f1 for t in range(51)) - 1e-9


def test_choose_threshold_lies_in_range_when_all_scores_are_equal() -> None:
    assert 0.0 <= choose_threshold([0.5, 0.5], [True, False]) <= 0.5
