"""Bootstrap intervals of F1 and of its drop, compared with resampled rows; invariances of the intervals."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from toxicity_training.evaluation.intervals import Interval, _interval, drop_intervals, f1_intervals
from toxicity_training.evaluation.metrics import Confusion

Rows = tuple[list[bool], list[bool]]


def rows_of(counts: Confusion) -> Rows:
    """(decisions, labels) with these counts."""
    decisions = [True] * counts.true_positives + [False] * counts.false_negatives
    labels = [True] * len(decisions)
    decisions += [True] * counts.false_positives + [False] * counts.true_negatives
    return decisions, labels + [False] * (len(decisions) - len(labels))


def toxic_f1(decisions: list[bool], labels: list[bool]) -> float:
    hits = sum(said and toxic for said, toxic in zip(decisions, labels, strict=True))
    return 2 * hits / (sum(decisions) + sum(labels))


def f1_interval(counts: Confusion, seed: int) -> Interval:
    return f1_intervals(*rows_of(counts), seed).f1


def by_rows(decisions: list[list[bool]], labels: list[bool], seed: int, draws: int = 3000) -> list[list[float]]:
    """Toxic F1 of each classifier in resamples that draw rows, stratified by label."""
    random = Random(seed)
    strata = [[i for i, toxic in enumerate(labels) if toxic is wanted] for wanted in (True, False)]
    found = []
    for _ in range(draws):
        chosen = [i for stratum in strata for i in random.choices(stratum, k=len(stratum))]
        drawn = [labels[i] for i in chosen]
        found.append([toxic_f1([answer[i] for i in chosen], drawn) for answer in decisions])
    return found


def tails(figures: list[float]) -> Interval:
    ranked = sorted(figures)
    return ranked[round(len(ranked) * 0.025)], ranked[round(len(ranked) * 0.975)]


def test_f1_interval_equals_a_bootstrap_that_draws_rows() -> None:
    counts = Confusion(true_positives=60, false_positives=15, false_negatives=20, true_negatives=105)
    decisions, labels = rows_of(counts)
    expected = tails([figure for (figure,) in by_rows([decisions], labels, seed=11)])
    assert f1_interval(counts, seed=1) == pytest.approx(expected, abs=0.012)


def test_f1_interval_covers_the_true_f1_in_about_95_of_100_samples() -> None:
    # 80 of 100 toxic ones are found and 60 of 300 harmless ones called toxic: F1 = 160 / (160 + 60 + 20)
    random, covered = Random(2), 0
    for seed in range(300):
        hits = sum(random.random() < 0.8 for _ in range(100))
        alarms = sum(random.random() < 0.2 for _ in range(300))
        low, high = f1_interval(Confusion(hits, alarms, 100 - hits, 300 - alarms), seed)
        covered += low <= 160 / 240 <= high
    assert 0.91 <= covered / 300 <= 0.985


def test_f1_interval_narrows_with_more_rows_and_repeats_with_its_seed() -> None:
    small, large = Confusion(8, 2, 2, 8), Confusion(800, 200, 200, 800)
    (a, b), (c, d) = f1_interval(small, 1), f1_interval(large, 1)
    assert a < c < 0.8 < d < b
    assert f1_interval(small, 1) == (a, b)
    assert f1_interval(large, 2) != (c, d)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [(Confusion(5, 0, 0, 5), 1.0), (Confusion(0, 0, 5, 5), 0.0), (Confusion(0, 0, 0, 5), 0.0)],
    ids=["nothing wrong", "nothing found", "nothing toxic"],
)
def test_f1_interval_is_a_point_where_nothing_varies(counts: Confusion, expected: float) -> None:
    assert f1_interval(counts, seed=4) == (expected, expected)


def test_macro_interval_is_the_mean_of_both_classes_where_nothing_varies() -> None:
    assert f1_intervals(*rows_of(Confusion(5, 0, 0, 5)), 4).macro_f1 == (1.0, 1.0)
    # harmless F1 is 2 * 5 / (5 + 5 + 5) with every toxic one missed
    low, high = f1_intervals(*rows_of(Confusion(0, 0, 5, 5)), 4).macro_f1
    assert (low, high) == pytest.approx((1 / 3, 1 / 3))


def test_drop_interval_equals_a_paired_bootstrap_that_draws_rows() -> None:
    before, labels = rows_of(Confusion(60, 15, 20, 105))
    random = Random(3)
    after = [said if random.random() < 0.9 else not said for said in before]
    expected = tails([a - b for a, b in by_rows([before, after], labels, seed=5)])
    assert drop_intervals(before, after, labels, seed=1).f1 == pytest.approx(expected, abs=0.012)


def test_drop_of_equal_decisions_is_exactly_nothing_however_few_the_rows() -> None:
    decisions, labels = rows_of(Confusion(6, 2, 3, 9))
    intervals = drop_intervals(decisions, decisions, labels, seed=1)
    assert (intervals.f1, intervals.macro_f1) == ((0.0, 0.0), (0.0, 0.0))


def test_pairing_makes_the_interval_of_a_drop_narrower_than_the_figures_own() -> None:
    before, labels = rows_of(Confusion(30, 10, 10, 50))
    after = [not before[0], *before[1:]]
    low, high = drop_intervals(before, after, labels, seed=1).f1
    own_low, own_high = f1_intervals(before, labels, seed=1).f1
    assert high - low < (own_high - own_low) / 3


def macro_f1(decisions: list[bool], labels: list[bool]) -> float:
    others = toxic_f1([not said for said in decisions], [not toxic for toxic in labels])
    return (toxic_f1(decisions, labels) + others) / 2


def test_drops_are_positive_where_the_later_decisions_are_worse_and_negative_where_they_are_better() -> None:
    good, labels = rows_of(Confusion(38, 3, 2, 157))
    poor = [not said if index % 7 == 0 else said for index, said in enumerate(good)]
    drop, gain = drop_intervals(good, poor, labels, seed=1), drop_intervals(poor, good, labels, seed=1)
    for figure, (low, high), gained in (
        (toxic_f1, drop.f1, gain.f1),
        (macro_f1, drop.macro_f1, gain.macro_f1),
    ):
        assert 0 < low < figure(good, labels) - figure(poor, labels) < high
        assert gained == pytest.approx((-high, -low), abs=0.02)  # drawn in another order
    assert drop.f1 != pytest.approx(drop.macro_f1, abs=0.02)


def test_macro_interval_holds_the_macro_f1_and_toxic_interval_the_toxic_one() -> None:
    """With few toxic rows the two figures are far apart."""
    decisions, labels = rows_of(Confusion(20, 30, 20, 930))
    intervals = f1_intervals(decisions, labels, seed=1)
    assert intervals.f1[0] < toxic_f1(decisions, labels) < intervals.f1[1]
    assert intervals.macro_f1[0] < macro_f1(decisions, labels) < intervals.macro_f1[1]
    assert intervals.f1[1] < intervals.macro_f1[0]


def test_class_that_does_not_occur_and_is_never_called_has_an_f1_of_zero() -> None:
    assert f1_intervals(*rows_of(Confusion(0, 0, 0, 5)), 4).macro_f1 == (0.5, 0.5)
    assert f1_intervals(*rows_of(Confusion(5, 0, 0, 0)), 4).macro_f1 == (0.5, 0.5)


def test_interval_leaves_out_as_many_resamples_on_either_side() -> None:
    assert _interval(np.arange(1001)) == (25.0, 975.0)
    assert _interval(np.arange(1001)[::-1]) == (25.0, 975.0)
