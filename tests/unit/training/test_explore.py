"""The command that explores a data set: its table, and errors that name the field."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import pytest

from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_training.dataset import Example
from toxicity_training.eda import explore
from toxicity_training.explore import HEADER, main, render_lengths, write_changes


def test_table_has_characters_and_tokens_of_all_rows_and_of_each_label() -> None:
    examples = [Example("а" * length, toxic=length < 30) for length in (10, 20, 30, 50)]
    lines = render_lengths(explore(examples, [4, 6, 8, 14])).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == list(HEADER)
    assert [row[:4] + row[-1:] for row in cells[2:]] == [
        ["characters, all", "4", "10", "28", "50"],
        ["characters, toxic", "2", "10", "15", "20"],
        ["characters, not toxic", "2", "30", "40", "50"],
        ["tokens, all", "4", "4", "8", "14"],
        ["tokens, toxic", "2", "4", "5", "6"],
        ["tokens, not toxic", "2", "8", "11", "14"],
    ]
    assert cells[2][5] == "25"  # the median of 10, 20, 30 and 50


def test_label_without_rows_has_no_line() -> None:
    assert "not toxic" not in render_lengths(explore([Example("а", toxic=True)], [3]))


def test_texts_that_the_normal_form_changes_are_listed(tmp_path: Path) -> None:
    texts = ["спасибо", " йога\n", unicodedata.normalize("NFD", "йога"), "ду\u200bрак", 'дурааак, "да"']
    write_changes([Example(text, toxic=False) for text in texts], tmp_path / "changed.csv")
    with (tmp_path / "changed.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.reader(file))
    assert listed == [["row", "text", "form"], ["4", texts[3], "дурак"], ["5", texts[4], 'дурак, "да"']]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "cannot read"),
        ("text,toxic\nпривет,0\n", [], "dataset.textColumn"),
        ("comment,toxic\nпривет,0\n", ["--label-column", "label"], "dataset.labelColumn"),
    ],
)
def test_unusable_data_set_is_refused_before_the_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, arguments: list[str], message: str
) -> None:
    dataset = tmp_path / "comments.csv"
    if content is not None:
        dataset.write_text(content, encoding="utf-8")
    paths = ["--dataset", str(dataset), "--base-model", str(tmp_path / "none"), "--output", str(tmp_path / "eda")]
    assert main([*paths, *arguments]) == EXIT_INVALID_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "eda").exists()
