"""The folds of a cross-validation, and the figures that follow from their scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from toxicity_stage.errors import DatasetError, InputError
from toxicity_training.dataset import Example, normalise
from toxicity_training.evaluation.intervals import drop_intervals
from toxicity_training.evaluation.metrics import count_confusion
from toxicity_training.folds.figures import FoldScores, ModelScores, Pooled, figures_of, gain, pool
from toxicity_training.folds.plan import plan_folds
from toxicity_training.folds.run import read_previous
from toxicity_training.folds.table import FoldsReport, render

ROWS = [
    Example(f"номер {number // 2}{'!' if number % 2 else ''}", toxic=number % 6 < 2)  # each text twice
    for number in range(240)
]
LABELS = [True, False, True, False, True, False]


def test_every_row_is_tested_once_and_equal_texts_are_on_one_side() -> None:
    folds = plan_folds(ROWS, 5, seed=1)
    assert sorted(row for fold in folds for row in fold.test_rows) == list(range(240))
    for fold in folds:
        assert [ROWS[row] for row in fold.test_rows] == fold.splits.test
        texts = [{normalise(example.text) for example in part} for _, part in fold.splits.items()]
        assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
        assert sum(len(part) for _, part in fold.splits.items()) == 240
        for part in (fold.splits.test, fold.splits.validation):
            assert sum(row.toxic for row in part) / len(part) == pytest.approx(1 / 3, abs=0.05)


def test_folds_follow_the_seed() -> None:
    first, second, other = (plan_folds(ROWS, 5, seed) for seed in (1, 1, 2))
    assert first == second and first != other


@pytest.mark.parametrize("rows", [ROWS[:3], [Example("a", True), *(Example(f"b {n}", False) for n in range(40))]])
def test_rows_that_make_no_folds_are_refused(rows: list[Example]) -> None:
    with pytest.raises(DatasetError, match="add"):
        plan_folds(rows, 5, seed=1)


def scores(threshold: float, plain: list[float], other: list[float] | None = None) -> ModelScores:
    turned = [1 - score for score in plain]
    return ModelScores(
        threshold=threshold, plain=plain, distorted=turned, misspelled=[0.0] * len(plain), other=other or []
    )


def two_folds() -> tuple[list[FoldScores], list[ModelScores]]:
    """Rows 5, 0 and 2 in the first fold, the others in the second, whose scores are on another scale."""
    models = [scores(0.5, [0.2, 0.9, 0.3], [0.6, 0.4]), scores(0.05, [0.04, 0.01, 0.06], [0.3, 0.2])]
    rows = ([5, 0, 2], [3, 1, 4])
    return [
        FoldScores(test_rows=part, model=model, baseline=model, seconds=1.0)
        for part, model in zip(rows, models, strict=True)
    ], models


def test_rows_are_pooled_in_the_order_of_the_data_set_at_each_fold_s_threshold() -> None:
    pooled = pool("this", *two_folds(), "abc")
    assert pooled.scores == [0.9, 0.01, 0.3, 0.04, 0.06, 0.2]
    assert pooled.decisions["plain"] == [True, False, False, False, True, False]
    assert pooled.decisions["distorted"] == [False, True, True, True, True, True]


def test_figures_are_those_of_the_pooled_decisions_and_the_mean_of_the_other_domain() -> None:
    figures = figures_of(pool("this", *two_folds(), "abc"), LABELS, [True, False], seed=1)
    # TP 2, FN 1, TN 3
    assert (figures.f1, figures.macro_f1) == (pytest.approx(0.8), pytest.approx((0.8 + 6 / 7) / 2))
    assert figures.macro_f1_low <= figures.macro_f1 <= figures.macro_f1_high
    assert (figures.distorted_f1, figures.misspelled_f1) == (pytest.approx(0.5), 0.0)
    # the second fold calls both rows of the other domain toxic
    assert (figures.other_roc_auc, figures.other_f1, figures.other_best_f1) == (
        1.0,
        pytest.approx((1 + 2 / 3) / 2),
        1.0,
    )
    bare = pool("this", *two_folds(), "abc").model_copy(update={"other": []})
    assert figures_of(bare, LABELS, [], seed=1).other_f1 is None


def test_gain_is_paired_on_the_same_rows() -> None:
    def said(name: str, plain: list[bool]) -> Pooled:
        return Pooled(
            name=name, scores=[float(each) for each in plain], decisions={"plain": plain}, thresholds=[0.5]
        )

    labels = LABELS * 20
    good, poor = list(labels), [toxic and index % 4 != 0 for index, toxic in enumerate(labels)]
    found = gain(said("this", good), said("TF-IDF", poor), labels, seed=3)
    assert found.over == "TF-IDF"
    assert found.f1 == pytest.approx(1 - count_confusion(map(float, poor), labels, 0.5).f1)
    assert (found.f1_low, found.f1_high) == drop_intervals(good, poor, labels, 3).f1
    assert 0 < found.macro_f1_low < found.macro_f1 < found.macro_f1_high


def test_the_table_has_a_row_for_each_model_and_each_gain() -> None:
    pooled = pool("this", *two_folds(), "abc")
    figures = figures_of(pooled, LABELS, [True, False], seed=1)
    other = figures.model_copy(update={"name": "TF-IDF + LR", "other_f1": None, "macro_f1": 0.0123})
    over = gain(pooled, pooled.model_copy(update={"name": "TF-IDF + LR"}), LABELS, seed=1)
    text = render(FoldsReport(title="T", rows=6, folds=2, other_rows=2, models=[figures, other], gains=[over]))
    assert "# T" in text and "6 rows, each scored by the model of 2 folds" in text
    assert "| this        | 0.829 (" in text and "| TF-IDF + LR | 0.012 (" in text
    assert "+0.000 (+0.000 to +0.000)" in text


def test_a_previous_run_on_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(pool("this", *two_folds(), "abc").model_dump_json(by_alias=True), encoding="utf-8")
    assert read_previous(path, "abc", 6).name == "previous model"
    for digest, rows in (("abd", 6), ("abc", 7)):
        with pytest.raises(InputError, match="of another data set"):
            read_previous(path, digest, rows)
    with pytest.raises(InputError, match="has no predictions"):
        read_previous(tmp_path / "none.json", "abc", 6)
