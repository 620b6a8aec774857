"""The comparison of a trained model with baselines fitted on its training rows and on all training rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.builders import metrics
from support.training.tiny import write_dataset
from toxicity_api.results import EXIT_INVALID_INPUT, StageResult, TrainingResult
from toxicity_stage.artifacts import open_work_folder, publish
from toxicity_training.dataset import Example
from toxicity_training.evaluation.baseline import measure_baseline
from toxicity_training.quality import (
    WIDTH,
    QualityReport,
    QualityRow,
    compare,
    main,
    render_quality,
    without_evaluation,
)
from toxicity_training.splits import Splits, write_splits


def comments(count: int, start: int = 0) -> list[Example]:
    """Distinct texts, also after normalisation; every other one is toxic."""
    return [
        Example(f"номер {number} {'дурак' if number % 2 else 'спасибо'}", toxic=bool(number % 2))
        for number in range(start, start + count)
    ]


ROWS = comments(200)
SPLITS = Splits(ROWS[:40], ROWS[40:60], ROWS[60:80])


def stage(folder: Path, splits: Splits = SPLITS, pr_auc: float | None = 0.95, normal_form: int | None = 1) -> Path:
    figures = metrics(0.9, test_samples=len(splits.test)).model_copy(update={"pr_auc": pr_auc})
    training = TrainingResult(
        metrics=figures,
        train_samples=len(splits.train),
        loss=0.3,
        duration_seconds=446.0,
        normal_form=normal_form,
    )
    final = folder / "train-abc"
    work = open_work_folder(final)
    write_splits(splits, work / "splits")
    result = StageResult(stage="train", fingerprint="abc", outcome="succeeded", training=training)
    publish(work, final, result)
    return final


def test_the_model_stands_beside_the_baseline_on_the_same_rows(tmp_path: Path) -> None:
    report = compare(stage(tmp_path), None)
    model, baseline = report.rows
    assert (model.name, model.train_samples, model.metrics.f1, model.duration_seconds) == (
        "this model",
        40,
        0.9,
        446,
    )
    assert (baseline.name, baseline.train_samples) == ("TF-IDF + LR, same rows", 40)
    assert baseline.metrics.f1 == 1.0
    assert baseline.metrics.test_samples == model.metrics.test_samples == 20


@pytest.mark.parametrize(("normal_form", "version", "another"), [(1, 1, 0), (None, 0, 1)])
def test_the_baseline_reads_the_texts_in_the_form_that_the_model_was_trained_on(
    tmp_path: Path, normal_form: int | None, version: int, another: int
) -> None:
    hidden = [Example("\u200b".join(row.text), row.toxic) for row in SPLITS.test]
    splits = Splits(SPLITS.train, SPLITS.validation, hidden)
    baseline = compare(stage(tmp_path, splits, normal_form=normal_form), None).rows[1]
    rows = splits.train, splits.validation, splits.test
    assert baseline.metrics == measure_baseline(*rows, normal_form=version).metrics
    assert baseline.metrics != measure_baseline(*rows, normal_form=another).metrics


def test_no_text_of_validation_or_test_is_among_the_rows_of_the_second_baseline() -> None:
    shouted = [Example(f"{row.text.upper()}!!", row.toxic) for row in SPLITS.test]
    kept = without_evaluation([*ROWS, *shouted], SPLITS)
    assert kept == [*ROWS[:40], *ROWS[80:]]


def test_the_second_baseline_gets_all_rows_but_the_evaluated_ones(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    command = ["--stage", str(folder), "--dataset", str(write_dataset(tmp_path / "all.csv", ROWS)), "--seed", "7"]
    assert main(command) == 0
    report = QualityReport.model_validate_json((tmp_path / "train-abc.quality.json").read_bytes())
    assert [row.name for row in report.rows][2:] == ["TF-IDF + LR, all rows"]
    # 160 training rows of 200, of which those in the stage's validation and test (about a fifth) are left out
    assert 120 <= report.rows[2].train_samples <= 140
    assert report.rows[2].metrics.test_samples == 20


def test_a_second_baseline_on_the_same_rows_is_left_out(tmp_path: Path) -> None:
    assert len(compare(stage(tmp_path), list(reversed(SPLITS.train))).rows) == 2


def test_the_table_is_printed_and_kept_with_its_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "q.md"
    assert main(["--stage", str(stage(tmp_path)), "--output", str(output)]) == 0
    table = output.read_text(encoding="utf-8")
    assert capsys.readouterr().out == table
    lines = table.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == "# Quality of train-abc"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == ["model", "rows", "toxic F1", "macro F1", "ROC-AUC", "PR-AUC", "seconds"]
    assert cells[2] == ["this model", "40", "0.900", "0.890", "0.960", "0.950", "446.0"]
    assert "same 20 test rows" in table
    assert output.with_suffix(".json").is_file()


def test_pr_auc_has_a_column_only_where_someone_has_it() -> None:
    row = QualityRow(name="m", train_samples=1, metrics=metrics(), duration_seconds=1.0)
    better = row.model_copy(update={"metrics": metrics(pr_auc=0.9)})
    assert "PR-AUC" not in render_quality(QualityReport(stage="s", rows=[row]))
    assert "–" in render_quality(QualityReport(stage="s", rows=[row, better]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "{0}/nowhere"], "has no result of a succeeded stage; run the previous stage again"),
        (["--stage", "{0}/train-abc", "--dataset", "{0}/none.csv"], "cannot read"),
        (["--stage", "{0}/train-abc", "--dataset", "{0}/none.csv", "--test", "0.9"], "test"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    stage(tmp_path)
    assert main([argument.format(tmp_path) for argument in arguments]) == EXIT_INVALID_INPUT
    assert message in capsys.readouterr().err


def test_a_quantization_stage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final = tmp_path / "quantize-abc"
    result = StageResult(stage="quantize", fingerprint="abc", outcome="succeeded")
    publish(open_work_folder(final), final, result)
    assert main(["--stage", str(final)]) == EXIT_INVALID_INPUT
    assert "is not a training stage" in capsys.readouterr().err
