"""The command that explores a data set, with a real tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.training.tiny import make_examples, write_dataset
from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_api.spec import TrainingSpec
from toxicity_training.explore import CHANGED_FILE, load_tokenizer, main

pytestmark = pytest.mark.engine


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "comments.csv", make_examples(40))


def test_files_of_a_training_stage_are_written(tmp_path: Path, dataset: Path, base_model: Path) -> None:
    output = tmp_path / "eda"
    assert main(["--dataset", str(dataset), "--base-model", str(base_model), "--output", str(output)]) == 0
    eda = json.loads((output / "eda.json").read_bytes())
    assert eda["rows"] == eda["tokens"]["all"]["rows"] == 40
    template = TrainingSpec().prompt_template.replace("{text}", "")
    without_text = load_tokenizer(base_model)(template)["input_ids"]
    assert eda["tokens"]["all"]["min"] > len(without_text), "the template counts"
    plots = {"labels.png", "len_text_chars.png", "len_text_tokens.png", "labels_len.png"}
    assert {path.name for path in output.glob("*.png")} == plots
    assert (output / CHANGED_FILE).read_text(encoding="utf-8").splitlines() == ["row,text,form"]


def test_folder_without_a_tokenizer_is_refused(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    output = tmp_path / "eda"
    arguments = ["--dataset", str(dataset), "--base-model", str(folder), "--output", str(output)]
    assert main(arguments) == EXIT_INVALID_INPUT
    assert "baseModel: " in capsys.readouterr().err and not output.exists()
