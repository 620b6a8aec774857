"""The entry point of the training stage leaves a result document in every case that needs no model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.training.stage_process import configure_training
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, Metrics, StageResult, TrainingResult
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE
from toxicity_stage.artifacts import open_work_folder, publish, read_result
from toxicity_training.__main__ import main

METRICS = Metrics(f1=0.8, macro_f1=0.85, precision=0.8, recall=0.8, roc_auc=0.9, threshold=0.4, test_samples=10)


def run(log: Path) -> tuple[int, dict[str, Any]]:
    code = main(["--termination-log", str(log)])
    return code, json.loads(log.read_text(encoding="utf-8"))


def test_bad_data_fails_for_good_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure_training(monkeypatch, tmp_path, "text,toxic\nпривет,0\n")
    code, document = run(tmp_path / "log")
    assert code == EXIT_INVALID_INPUT
    assert (document["outcome"], document["reason"]) == ("failed", "MissingColumn")
    assert "dataset.textColumn" in document["message"]
    kept = read_result(tmp_path / "artifacts" / "train-abc")
    assert kept is not None
    assert kept.reason == "MissingColumn"


@pytest.mark.parametrize("csv", ["comment,toxic\n1,{0}\n", "{0},1\nтекст,0\n"])
def test_swapped_columns_and_a_missing_header_publish_no_comment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], csv: str
) -> None:
    comment = "ты дурак и " * 400
    configure_training(monkeypatch, tmp_path, csv.format(comment))
    code, document = run(tmp_path / "log")
    assert (code, document["message"][-1] != "…") == (EXIT_INVALID_INPUT, True)
    output = "".join(capfd.readouterr())
    kept = (tmp_path / "artifacts" / "train-abc" / "result.json").read_text(encoding="utf-8")
    assert "Traceback" not in output
    for place in (document["message"], output, kept):
        assert 0 < place.count("дурак") < 10


@pytest.mark.parametrize("document", [None, "{", '{"model": "m"}'])
def test_a_bad_configuration_fails_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: str | None
) -> None:
    monkeypatch.delenv(STAGE_CONFIG_VARIABLE, raising=False)
    if document is not None:
        monkeypatch.setenv(STAGE_CONFIG_VARIABLE, document)
    code, written = run(tmp_path / "log")
    assert code == EXIT_INVALID_INPUT
    assert written["reason"] == "InvalidConfig"


def test_a_stage_that_is_done_is_reported_again_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_training(monkeypatch, tmp_path, "this is no data set at all")
    final = tmp_path / "artifacts" / "train-abc"
    done = StageResult(
        stage="train",
        fingerprint="abc",
        outcome="succeeded",
        training=TrainingResult(metrics=METRICS, train_samples=5, loss=0.1, duration_seconds=1.0),
    )
    publish(open_work_folder(final), final, done)
    code, document = run(tmp_path / "log")
    assert code == 0
    reported = StageResult.model_validate(document)
    assert reported.storage is not None
    assert [folder.name for folder in reported.storage.folders] == ["train-abc"]
    assert reported == done.model_copy(update={"storage": reported.storage})
    assert sorted(path.name for path in final.iterdir()) == ["result.json"]


def test_old_results_are_removed_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure_training(monkeypatch, tmp_path, "text,toxic\nпривет,0\n")
    config = json.loads(os.environ[STAGE_CONFIG_VARIABLE])
    retention = {"keep": ["train-abc", "train-b0"], "versions": 1}
    monkeypatch.setenv(STAGE_CONFIG_VARIABLE, json.dumps(config | {"retention": retention}))
    for name in ("train-a0", "train-b0"):
        (tmp_path / "artifacts" / name).mkdir(parents=True)
    assert run(tmp_path / "log")[0] == EXIT_INVALID_INPUT
    assert sorted(path.name for path in (tmp_path / "artifacts").iterdir()) == ["train-abc", "train-b0"]


def test_a_crash_leaves_a_failed_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_training(monkeypatch, tmp_path, "comment,toxic\nпривет,0\n")

    def crash(config: object) -> StageResult:
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr("toxicity_training.stage.run", crash)
    code, document = run(tmp_path / "log")
    assert code == EXIT_FAILED
    assert document["reason"] == "TrainingCrashed"
    assert "the machine is on fire" in document["message"]
    assert "Traceback" in capfd.readouterr().err
