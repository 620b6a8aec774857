"""Metrics compared with numbers computed by hand, and the choice of the threshold."""

from __future__ import annotations

import math
from random import Random

import pytest

from toxicity_api.spec import ThresholdSpec
from toxicity_stage.errors import DatasetError
from toxicity_training.evaluation.intervals import f1_intervals
from toxicity_training.evaluation.metrics import (
    Bin,
    Confusion,
    by_family,
    by_length,
    calibration_error,
    choose_threshold,
    count_confusion,
    decide,
    evaluate_scores,
    reliability,
)

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


@pytest.mark.parametrize("seed", range(5))
def test_choose_threshold_maximizes_macro_f1_on_demand(seed: int) -> None:
    scores, labels = drawn(60, seed)
    goal = ThresholdSpec(maximize="macroF1")
    best = count_confusion(scores, labels, choose_threshold(scores, labels, goal)).macro_f1
    assert best >= max(count_confusion(scores, labels, t / 200).macro_f1 for t in range(201)) - 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_choose_threshold_reaches_the_bounds_with_the_best_f1(seed: int) -> None:
    scores, labels = drawn(60, seed)
    for bounds in ({"min_precision": 0.8}, {"min_recall": 0.95}, {"min_precision": 0.5, "min_recall": 0.5}):
        goal = ThresholdSpec(**bounds)
        counts = count_confusion(scores, labels, choose_threshold(scores, labels, goal))
        others = [count_confusion(scores, labels, t / 200) for t in range(201)]
        assert all(getattr(counts, name.removeprefix("min_")) >= bound for name, bound in bounds.items())
        fit = [c for c in others if all(getattr(c, n.removeprefix("min_")) >= b for n, b in bounds.items())]
        assert counts.f1 >= max(c.f1 for c in fit) - 1e-9


def test_a_precision_that_no_threshold_reaches_is_refused_by_its_field_with_the_best() -> None:
    scores, labels = [0.9, 0.8, 0.7, 0.1], [False, True, True, False]
    with pytest.raises(
        DatasetError, match=r"minPrecision: the highest precision .* is 0\.667, below 0\.9; lower"
    ) as e:
        choose_threshold(scores, labels, ThresholdSpec(min_precision=0.9))
    assert e.value.reason == "ThresholdUnreachable"
    with pytest.raises(DatasetError, match=r"with a recall of at least 0\.6 is 0\.667"):
        choose_threshold(scores, labels, ThresholdSpec(min_precision=0.9, min_recall=0.6))


@pytest.mark.parametrize("scores", [[0.0, 0.0, 0.0], [0.9, 0.0, 0.0], [1.0, 1.0, 1.0]])
def test_every_recall_is_reached_even_by_scores_of_zero(scores: list[float]) -> None:
    labels = [True, True, False]
    threshold = choose_threshold(scores, labels, ThresholdSpec(min_recall=1.0))
    assert count_confusion(scores, labels, threshold).recall == 1.0
    with pytest.raises(
        DatasetError, match=r"minPrecision: .* with a recall of at least 1\.0 is 0\.667, below 0\.9"
    ):
        choose_threshold(scores, labels, ThresholdSpec(min_recall=1.0, min_precision=0.9))


def test_choose_threshold_separates_scores_that_no_number_lies_between() -> None:
    scores, labels = [math.nextafter(0.5, 1), 0.5], [True, False]
    assert count_confusion(scores, labels, choose_threshold(scores, labels)).f1 == 1.0


def test_choose_threshold_lies_in_range_when_all_scores_are_equal() -> None:
    assert 0.0 <= choose_threshold([0.5, 0.5], [True, False]) <= 0.5


@pytest.mark.parametrize(
    ("scores", "labels", "threshold"),
    [
        ([0.0, 0.0], [True, False], 0.0),  # all toxic: F1 2/3, and nothing else separates them
        ([0.9, 0.0, 0.0], [False, True, True], 0.0),
        # one toxic row or four rows in front: F1 2/3 both times, so the threshold nearer to 0.5
        ([1.0, 0.9, 0.8, 0.35, 0.15], [True, False, False, True, False], 0.25),
        ([0.7, 0.6, 0.5, 0.15, 0.05], [True, False, False, True, False], 0.65),
        ([0.3, 0.2, 0.1], [True, False, True], 0.05),  # all toxic: F1 0.8
    ],
)
def test_choose_threshold_lies_between_two_scores(
    scores: list[float], labels: list[bool], threshold: float
) -> None:
    assert choose_threshold(scores, labels) == pytest.approx(threshold)


def test_choose_threshold_for_macro_f1_weighs_the_harmless_rows() -> None:
    """One of six rows is harmless. The toxic class alone is best served by calling every row toxic."""
    scores, labels = [0.95, 0.85, 0.75, 0.65, 0.55, 0.45], [True, True, False, True, True, True]
    assert choose_threshold(scores, labels, ThresholdSpec(maximize="macroF1")) == pytest.approx(0.8)
    assert choose_threshold(scores, labels) == pytest.approx(0.225)


def test_by_family_counts_the_rows_of_each_family() -> None:
    families = ["swap", None, "drop", "swap", "swap"]
    before, after = [0.9, 0.9, 0.9, 0.9, 0.1], [0.9, 0.9, 0.1, 0.1, 0.9]
    drop, swap = by_family(families, before, after, [True, True, True, True, False], 0.5)
    assert (drop.name, drop.rows, drop.toxic, drop.f1, drop.f1_before) == ("drop", 1, 1, 0.0, 1.0)
    assert (swap.name, swap.rows, swap.toxic, swap.f1, swap.f1_before) == ("swap", 3, 2, 0.5, 1.0)


def drawn(rows: int, seed: int) -> tuple[list[float], list[bool]]:
    """Rounded scores with ties, higher for toxic rows; both labels occur."""
    random = Random(seed)
    labels = [True, False] + [random.random() < 0.3 for _ in range(rows - 2)]
    return [round(min(1.0, max(0.0, random.gauss(0.65 if t else 0.35, 0.2))), 2) for t in labels], labels


def test_evaluate_scores_fills_the_confusion_counts_and_average_precision() -> None:
    metrics = evaluate_scores(SCORES, LABELS, 0.5)
    counts = metrics.true_positives, metrics.false_positives, metrics.false_negatives, metrics.true_negatives
    assert counts == (2, 1, 1, 2)
    # toxic rows are ranked 1st, 3rd and 4th: precision there is 1, 2/3 and 3/4
    assert metrics.pr_auc == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert metrics.distorted_f1 is None


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_figures_equal_scikit_learn_s(threshold: float) -> None:
    from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

    scores, labels = drawn(300, seed=3)
    predicted = [score >= threshold for score in scores]
    counts = count_confusion(scores, labels, threshold)
    (tn, fp), (fn, tp) = confusion_matrix(labels, predicted).tolist()
    assert counts == Confusion(tp, fp, fn, tn)
    assert counts.f1 == pytest.approx(f1_score(labels, predicted, zero_division=0.0))
    assert counts.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0.0))
    assert counts.precision == pytest.approx(precision_score(labels, predicted, zero_division=0.0))
    assert counts.recall == pytest.approx(recall_score(labels, predicted))


def test_evaluate_scores_reports_the_interval_of_its_seed() -> None:
    scores, labels = drawn(100, seed=7)
    for seed in (0, 9):
        metrics = evaluate_scores(scores, labels, 0.5, seed=seed)
        intervals = f1_intervals(decide(scores, 0.5), labels, seed)
        assert (metrics.f1_low, metrics.f1_high) == intervals.f1
        assert (metrics.macro_f1_low, metrics.macro_f1_high) == intervals.macro_f1
        assert metrics.f1_low is not None and metrics.f1_high is not None
        assert metrics.f1_low < metrics.f1 < metrics.f1_high


def test_evaluate_scores_draws_with_seed_0_unless_another_is_given() -> None:
    scores, labels = drawn(100, seed=7)
    found = evaluate_scores(scores, labels, 0.5)
    assert found == evaluate_scores(scores, labels, 0.5, seed=0) != evaluate_scores(scores, labels, 0.5, seed=1)


def test_reliability_sorts_scores_into_ten_bins_with_the_edges_below_and_one_above() -> None:
    bins = reliability([0.0, 0.05, 0.1, 0.95, 1.0], [False, True, True, True, False])
    assert [(b.low, b.high) for b in bins] == [(i / 10, (i + 1) / 10) for i in range(10)]
    assert [b.rows for b in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins[0] == Bin(low=0.0, high=0.1, rows=2, mean_score=0.025, toxic_share=0.5)
    assert (bins[9].mean_score, bins[9].toxic_share) == pytest.approx((0.975, 0.5))
    assert (bins[5].mean_score, bins[5].toxic_share) == (None, None)


def test_calibration_error_equals_the_hand_computed_one() -> None:
    # [0, 0.1): 2 rows, mean 0.025, share 0.5; [0.9, 1]: 2 rows, mean 0.925, share 1
    bins = reliability([0.0, 0.05, 0.9, 0.95], [False, True, True, True])
    assert calibration_error(bins) == pytest.approx((2 * 0.475 + 2 * 0.075) / 4)
    assert calibration_error([]) == 0.0


def test_calibration_error_equals_brute_force() -> None:
    scores, labels = drawn(500, seed=13)
    expected = 0.0
    for low in range(10):
        inside = [i for i, s in enumerate(scores) if low / 10 <= s < (low + 1) / 10 or (low == 9 and s == 1.0)]
        expected += abs(sum(labels[i] for i in inside) - sum(scores[i] for i in inside)) / len(scores)
    assert evaluate_scores(scores, labels, 0.5).calibration_error == pytest.approx(expected)


def test_by_length_puts_each_row_into_the_bucket_of_its_length() -> None:
    lengths = [1, 100, 101, 1000, 1001, 7403]
    buckets = by_length([0.9] * 6, [True] * 6, lengths, 0.5)
    assert [b.name for b in buckets[:2]] == ["1-100", "101-200"]
    assert [b.name for b in buckets[9:]] == ["901-1000", ">1000"]
    assert [b.rows for b in buckets] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2]
    assert (buckets[10].low, buckets[10].high) == (1001, None)


def test_by_length_gives_the_hand_computed_figures_of_a_bucket() -> None:
    bucket = by_length(SCORES, LABELS, [150] * 6, 0.5)[1]
    assert (bucket.rows, bucket.toxic) == (6, 3)
    assert (bucket.f1, bucket.precision, bucket.recall) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_by_length_has_no_figures_where_nothing_is_toxic_or_called_so() -> None:
    scores, labels, lengths = [0.1, 0.9, 0.1], [False, False, True], [50, 150, 250]
    quiet, alarmed, missed, *empty = by_length(scores, labels, lengths, 0.5)
    assert (quiet.rows, quiet.f1, quiet.precision, quiet.recall) == (1, None, None, None)
    assert (alarmed.f1, alarmed.precision, missed.f1, missed.recall) == (0.0, 0.0, 0.0, 0.0)
    assert all((b.rows, b.f1) == (0, None) for b in empty)


def test_by_length_loses_no_row() -> None:
    scores, labels = drawn(400, seed=17)
    random = Random(17)
    buckets = by_length(scores, labels, [random.randint(1, 2000) for _ in scores], 0.5)
    assert sum(b.rows for b in buckets) == 400
    assert sum(b.toxic for b in buckets) == sum(labels)


def test_figures_of_unequal_length_are_refused() -> None:
    scores, labels = [0.1, 0.2], [True, False]
    for refused in (
        lambda: by_length(scores, labels, [5], 0.5),
        lambda: choose_threshold([*scores, 0.3], labels),
        lambda: count_confusion([*scores, 0.3], labels, 0.5),
        lambda: reliability([*scores, 0.3], labels),
    ):
        with pytest.raises(ValueError, match="zip"):
            refused()
