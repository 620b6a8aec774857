"""A cross-validation with a tiny model: its report, and what is kept for the next run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.training.tiny import make_examples, write_dataset
from toxicity_training.folds.run import main

pytestmark = pytest.mark.engine

GRID = """\
title: Tiny
training:
  gpus: 0
  learningRate: 2.0e-2
  labels: {toxic: да, nonToxic: нет нет}
  lora: {r: 4, alpha: 8}
  augmentation: {share: 0}
  earlyStopping: {patience: 1000}
runs:
  - name: tiny
"""


def test_a_second_run_trains_only_the_fold_that_is_missing(
    tmp_path: Path, base_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    dataset = write_dataset(tmp_path / "comments.csv", make_examples(200))
    other = write_dataset(tmp_path / "other.csv", [*make_examples(30, seed=2), *make_examples(5)])
    work = tmp_path / "work"
    arguments = [
        str(tmp_path / "grid.yaml"),
        f"--dataset={dataset}",
        f"--base-model={base_model}",
        f"--work={work}",
    ]
    arguments += [f"--other-domain={other}", "--folds=2"]
    assert main(arguments) == 0
    said = capfd.readouterr().out
    assert "quality: fold 1 of 2: training on" in said and "about 0 min left" in said
    report = json.loads((work / "folds.json").read_bytes())
    assert (report["rows"], report["folds"]) == (200, 2)
    assert 0 < report["otherRows"] <= 30, "texts of the data set are left out"
    model, baseline = report["models"]
    assert (model["name"], baseline["name"]) == ("tiny", "TF-IDF + LR")
    assert model["macroF1Low"] <= model["macroF1"] <= model["macroF1High"]
    assert {"distortedF1", "misspelledF1", "otherRocAuc", "otherF1", "otherBestF1"} <= set(model)

    assert sorted(path.name.split("-")[0] for path in work.iterdir()) == [
        "fold", "fold", "folds.json", "folds.md", "predictions",
    ], "neither models nor checkpoints stay"  # fmt: skip
    (predictions,) = work.glob("predictions-*")
    lost, kept = sorted(work.glob("fold-*"))
    before = kept.stat().st_mtime_ns
    lost.unlink()
    assert main([*arguments, f"--previous={predictions}"]) == 0
    said = capfd.readouterr().out
    assert f"{kept.name} is there" in said and said.count("training on") == 1
    assert kept.stat().st_mtime_ns == before and lost.exists()
    again = json.loads((work / "folds.json").read_bytes())
    assert again["models"][:2] == report["models"]
    assert [each["over"] for each in again["gains"]] == ["TF-IDF + LR", "previous model"]
    assert again["gains"][1]["macroF1"] == pytest.approx(0), "the same seed trains the same model"
